package api

import "time"

// Status is the daemon at a glance.
type Status struct {
	Version     string    `json:"version"`
	Node        string    `json:"node"`
	PID         int       `json:"pid"`
	Started     time.Time `json:"started"`
	Portals     int       `json:"portals"`
	Targets     int       `json:"targets"`
	LUNs        int       `json:"luns"`
	Sessions    int       `json:"sessions"`
	BufferBytes int64     `json:"buffer_bytes"`
	BufferLimit int64     `json:"buffer_limit"`
	Logins      uint64    `json:"logins"`
	Refused     uint64    `json:"refused"`
	Faults      uint64    `json:"faults"` // panics of actors
	Config      Config    `json:"config"`
	Warnings    []string  `json:"warnings"`
}

// Config is the state of the configuration.
type Config struct {
	Hash      string    `json:"hash"` // of what is in force
	Files     []string  `json:"files"`
	Changed   time.Time `json:"changed"`              // last reload or change, zero if none
	LastError string    `json:"last_error,omitempty"` // why it was not applied
}

// Portal is a listening address.
type Portal struct {
	Address    string   `json:"address"`
	Group      string   `json:"group"`
	Tag        uint16   `json:"tag"`
	Transports []string `json:"transports"`           // tcp, iser
	Providers  []string `json:"providers,omitempty"`  // of iSER: native (adapters), softiwarp (in software)
	Advertised string   `json:"advertised,omitempty"` // told to initiators instead of the address
	Redirect   string   `json:"redirect,omitempty"`   // where logins are sent
}

// Target is a target as it runs.
type Target struct {
	Name       string   `json:"name"`
	Alias      string   `json:"alias,omitempty"`
	Auth       string   `json:"auth"`   // none, chap or mutual-chap
	Origin     string   `json:"origin"` // file or api
	Offline    bool     `json:"offline"`
	Redirect   string   `json:"redirect,omitempty"` // where logins are sent
	Groups     []string `json:"portal_groups"`
	Initiators []string `json:"initiators"` // that are admitted; empty: any
	Sessions   int      `json:"sessions"`
	LUNs       []LUN    `json:"luns"`
}

// LUN is a logical unit as it runs.
type LUN struct {
	Number       uint16        `json:"number"`
	State        string        `json:"state"` // online, offline, busy, failed, gone
	Backend      string        `json:"backend"`
	Size         int64         `json:"size"` // bytes; 0 while it is not online
	BlockSize    int           `json:"block_size"`
	ReadOnly     bool          `json:"read_only"`
	Thin         bool          `json:"thin"`
	Serial       string        `json:"serial"`
	NAA          string        `json:"naa"`
	Reservations *Reservations `json:"reservations,omitempty"`
	ALUA         *ALUA         `json:"alua,omitempty"`
	Stats        Stats         `json:"stats"`
	Actor        string        `json:"actor"`
}

// Reservations are the reservations of a LUN.
type Reservations struct {
	Generation uint32       `json:"generation"`
	Type       string       `json:"type,omitempty"` // of the persistent reservation
	Lost       bool         `json:"lost,omitempty"`
	Registered []Registrant `json:"registered"`
	Reserved   string       `json:"reserved,omitempty"` // initiator with an SPC-2 reservation
}

// ALUA is asymmetric access to a LUN.
type ALUA struct {
	Explicit bool        `json:"explicit"` // initiators may set states as well
	Groups   []ALUAGroup `json:"groups"`
}

// ALUAGroup is how a portal group, as a target port group, leads to a LUN.
type ALUAGroup struct {
	PortalGroup string `json:"portal_group"`
	ID          uint16 `json:"id"` // the portal group's tag
	State       string `json:"state"`
	Preferred   bool   `json:"preferred"`
	SetBy       string `json:"set_by"` // configured, initiator or target
}

// ALUAChange asks for another access state or preference; what is left out stays.
type ALUAChange struct {
	State     string `json:"state,omitempty"`
	Preferred *bool  `json:"preferred,omitempty"`
}

// Registrant is one registered I_T nexus.
type Registrant struct {
	Initiator string `json:"initiator"`
	Key       string `json:"key"` // 16 hexadecimal digits
	Holder    bool   `json:"holder"`
}

// Stats are totals since the LUN or the session began. Latencies are estimates
// from samples.
type Stats struct {
	Ops       map[string]uint64 `json:"ops"` // by read, write, flush, unmap, …
	Read      uint64            `json:"bytes_read"`
	Written   uint64            `json:"bytes_written"`
	InFlight  int64             `json:"in_flight"`
	Errors    map[string]uint64 `json:"errors"` // CHECK CONDITION by sense key
	Conflicts uint64            `json:"reservation_conflicts"`
	Busy      uint64            `json:"busy"`
	Aborted   uint64            `json:"aborted"`
	Latency   []Latency         `json:"latency"`
}

// Latency is a histogram: bucket i counts what took less than 1024 << i
// nanoseconds, and no less than the bound before it.
type Latency struct {
	Op          string   `json:"op"`    // read, write, other
	Stage       string   `json:"stage"` // total, wire, queue, backend
	Counts      []uint64 `json:"counts"`
	Nanoseconds uint64   `json:"nanoseconds"` // sum
}

// Session is a logged-in initiator.
type Session struct {
	TSIH         uint16       `json:"tsih"`
	ISID         string       `json:"isid"`
	Initiator    string       `json:"initiator"`
	Target       string       `json:"target"` // empty in a discovery session
	User         string       `json:"user,omitempty"`
	Group        uint16       `json:"portal_group_tag"`
	Transport    string       `json:"transport"`
	Peer         string       `json:"peer"`
	Since        time.Time    `json:"since"`
	HeaderDigest bool         `json:"header_digest"`
	DataDigest   bool         `json:"data_digest"`
	Actor        string       `json:"actor"`
	LUNs         []SessionLUN `json:"luns"`
}

// SessionLUN is an I_T_L nexus.
type SessionLUN struct {
	LUN      uint16 `json:"lun"`    // as the initiator sees it
	Number   uint16 `json:"number"` // of the target
	ReadOnly bool   `json:"read_only"`
	Stats    Stats  `json:"stats"`
}

// Actor is one actor.
type Actor struct {
	Path        string  `json:"path"`
	Kind        string  `json:"kind"`
	Behaviour   string  `json:"behaviour"`
	State       string  `json:"state"`
	Queued      int     `json:"queued"`
	MaxQueued   int     `json:"max_queued"`
	Processed   uint64  `json:"processed"`
	Restarts    uint64  `json:"restarts"`
	Failures    uint64  `json:"failures"`
	LastMessage string  `json:"last_message"`
	Age         float64 `json:"age"`               // seconds
	Details     any     `json:"details,omitempty"` // in the answer about one actor
	Silent      string  `json:"silent,omitempty"`  // the same: why it does not tell its details
	Faults      []Fault `json:"faults,omitempty"`  // the same: the latest, oldest first
}

// Fault is a supervision event.
type Fault struct {
	Seq        uint64    `json:"seq"`
	Time       time.Time `json:"time"`
	Path       string    `json:"path"`
	Generation uint64    `json:"generation"`
	Message    string    `json:"message"` // type of the message in hand
	Panic      string    `json:"panic"`
	Stack      string    `json:"stack"`
	Action     string    `json:"action"`
	Backoff    float64   `json:"backoff"` // seconds
}

// Refusal is why an initiator was not let in.
type Refusal struct {
	Initiator string    `json:"initiator"`
	Address   string    `json:"address"`
	Target    string    `json:"target"`
	Discovery bool      `json:"discovery"`
	Portal    string    `json:"portal"`
	Status    string    `json:"status"` // four hexadecimal digits: class and detail
	Text      string    `json:"text"`
	Reason    string    `json:"reason"`
	First     time.Time `json:"first"`
	Last      time.Time `json:"last"`
	Count     uint64    `json:"count"`
}

// Trace is one line of a trace: a command, and how many were not shown before it.
type Trace struct {
	NotShown uint64         `json:"not_shown"`
	Command  *TracedCommand `json:"command,omitempty"` // absent when only NotShown is told
}

// TracedCommand is a SCSI command that was answered, or has ended without.
type TracedCommand struct {
	Time      time.Time `json:"time"` // of the end
	TSIH      uint16    `json:"tsih"`
	Initiator string    `json:"initiator"`
	Target    string    `json:"target"`
	LUN       uint16    `json:"lun"`    // as the initiator sees it
	Number    int       `json:"number"` // of the target's LUN, -1: there is none
	Tag       uint32    `json:"tag"`    // InitiatorTaskTag
	Name      string    `json:"name"`   // of the command in the standard; empty: unknown
	CDB       string    `json:"cdb"`    // hexadecimal
	LBA       uint64    `json:"lba"`
	Blocks    uint64    `json:"blocks"`
	Bytes     int       `json:"bytes"`  // moved
	Status    string    `json:"status"` // GOOD, CHECK CONDITION, …; ABORTED: not answered
	Sense     string    `json:"sense,omitempty"`
	Total     float64   `json:"total_us"` // from the command to its response, microseconds
	Wire      float64   `json:"wire_us"`  // waiting for data-out
	Queue     float64   `json:"queue_us"` // waiting for commands before it and for a worker
	Backend   float64   `json:"backend_us"`
}

// Change is one step of a plan.
type Change struct {
	Action  string   `json:"action"`
	Object  string   `json:"object"`
	Effect  string   `json:"effect,omitempty"`
	Details []Detail `json:"details"`
	Text    string   `json:"text"` // all of it, for people
}

// Detail is one argument that differs.
type Detail struct {
	Name string `json:"name"`
	Old  string `json:"old"`
	New  string `json:"new"`
}

// Plan is what a reload would do or has done.
type Plan struct {
	Changes     []Change     `json:"changes"`
	Drift       []Change     `json:"drift"`       // what is not as configured, by commands and initiators; a reload leaves it
	Diagnostics []Diagnostic `json:"diagnostics"` // warnings, and errors when it is invalid
}

// Diagnostic is about one place of the configuration.
type Diagnostic struct {
	Severity string `json:"severity"`
	Summary  string `json:"summary"`
	Detail   string `json:"detail"`
	File     string `json:"file"`
	Line     int    `json:"line"`
	Col      int    `json:"col"`
}

// TargetSpec asks for a target. It is gone after a restart of the daemon.
type TargetSpec struct {
	Alias      string          `json:"alias,omitempty"`
	Auth       string          `json:"auth,omitempty"`     // name of an auth block
	Insecure   bool            `json:"insecure,omitempty"` // admit everybody
	Groups     []string        `json:"portal_groups,omitempty"`
	Initiators []InitiatorSpec `json:"initiators,omitempty"`
	LUNs       []LUNSpec       `json:"luns,omitempty"`
	ALUA       *ALUASpec       `json:"alua,omitempty"` // of all LUNs
}

// ALUASpec asks for asymmetric access through the portal groups of a target, all of
// which it names.
type ALUASpec struct {
	Explicit bool            `json:"explicit,omitempty"`
	Groups   []ALUAGroupSpec `json:"groups"`
}

// ALUAGroupSpec is how a portal group is to lead to a LUN.
type ALUAGroupSpec struct {
	PortalGroup string `json:"portal_group"`
	State       string `json:"state,omitempty"` // active/optimized when it is left out
	Preferred   bool   `json:"preferred,omitempty"`
}

// InitiatorSpec admits an initiator.
type InitiatorSpec struct {
	Name     string            `json:"name"`
	LUNs     map[uint16]uint16 `json:"luns,omitempty"` // as seen to the target's
	ReadOnly []uint16          `json:"read_only,omitempty"`
}

// LUNSpec asks for a LUN.
type LUNSpec struct {
	Number    uint16      `json:"number"`
	Backend   BackendSpec `json:"backend"`
	BlockSize int64       `json:"block_size,omitempty"`
	Serial    string      `json:"serial,omitempty"`
	NAA       string      `json:"naa,omitempty"`
	Thin      bool        `json:"thin,omitempty"`
	ReadOnly  bool        `json:"read_only,omitempty"`
	ALUA      *ALUASpec   `json:"alua,omitempty"` // in place of the target's
}

// BackendSpec asks for a store.
type BackendSpec struct {
	Kind     string `json:"kind"`           // file, block, memory, null
	Path     string `json:"path,omitempty"` // of file and block
	Size     string `json:"size,omitempty"` // such as 40GiB
	Create   bool   `json:"create,omitempty"`
	DirectIO bool   `json:"direct_io,omitempty"`
	ReadOnly bool   `json:"read_only,omitempty"`
}

// LogLevels are the levels of the log.
type LogLevels struct {
	Level  string            `json:"level"`
	Levels map[string]string `json:"levels"` // of parts, by logger name
}

// Event is one server-sent event: its name and one of the records.
type Event struct {
	Seq  uint64 // counts them from 1, within the daemon
	Name string // fault, refusal, config (a ConfigEvent); lost: the reader was too slow
	Data []byte // JSON
}

// ConfigEvent is a change of the configuration, or one that was refused.
type ConfigEvent struct {
	Time    time.Time `json:"time"`
	Changes int       `json:"changes"`
	Error   string    `json:"error,omitempty"` // why it was not applied
}

// Problem is the answer to a request that failed.
type Problem struct {
	Error       string       `json:"error"`
	Diagnostics []Diagnostic `json:"diagnostics,omitempty"`
}
