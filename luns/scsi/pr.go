package scsi

import (
	"fmt"
	"slices"
	"strings"
)

// Additional sense codes of persistent reservations, SPC-5 annex F.
const (
	InvalidReleaseOfReservation       ASC = 0x2604 // INVALID RELEASE OF PERSISTENT RESERVATION
	PersistentReservationLost         ASC = 0x4401 // PERSISTENT RESERVATION INFORMATION LOST
	InsufficientRegistrationResources ASC = 0x5504 // INSUFFICIENT REGISTRATION RESOURCES
)

// ReservationType is the TYPE of a persistent reservation, SPC-5 table 74.
type ReservationType uint8

// Persistent reservation types.
const (
	WriteExclusive                 ReservationType = 0x1
	ExclusiveAccess                ReservationType = 0x3
	WriteExclusiveRegistrantsOnly  ReservationType = 0x5
	ExclusiveAccessRegistrantsOnly ReservationType = 0x6
	WriteExclusiveAllRegistrants   ReservationType = 0x7
	ExclusiveAccessAllRegistrants  ReservationType = 0x8
	noReservation                  ReservationType = 0x0
)

// reservationTypeMask is the PERSISTENT RESERVATION TYPE MASK: all types, SPC-5
// 6.16.4.
const reservationTypeMask = 0xEA01

// Limits of what initiators can make the logical unit keep or receive.
const (
	maxRegistrants     = 1024
	maxNameLen         = 223 // iSCSI names, RFC 7143 4.2.7.2
	maxReservationList = 64 << 10
)

// String returns the standard's name, or the number.
func (t ReservationType) String() string {
	switch t {
	case noReservation:
		return "none"
	case WriteExclusive:
		return "Write Exclusive"
	case ExclusiveAccess:
		return "Exclusive Access"
	case WriteExclusiveRegistrantsOnly:
		return "Write Exclusive - Registrants Only"
	case ExclusiveAccessRegistrantsOnly:
		return "Exclusive Access - Registrants Only"
	case WriteExclusiveAllRegistrants:
		return "Write Exclusive - All Registrants"
	case ExclusiveAccessAllRegistrants:
		return "Exclusive Access - All Registrants"
	default:
		return fmt.Sprintf("ReservationType(%#x)", uint8(t))
	}
}

func (t ReservationType) valid() bool {
	return t >= WriteExclusive && t <= ExclusiveAccessAllRegistrants && t != 2 && t != 4
}

// allRegistrants: every registered I_T nexus is a reservation holder.
func (t ReservationType) allRegistrants() bool {
	return t == WriteExclusiveAllRegistrants || t == ExclusiveAccessAllRegistrants
}

func (t ReservationType) registrantsOnly() bool {
	return t == WriteExclusiveRegistrantsOnly || t == ExclusiveAccessRegistrantsOnly
}

// exclusiveAccess: reads conflict as well as writes.
func (t ReservationType) exclusiveAccess() bool {
	switch t {
	case ExclusiveAccess, ExclusiveAccessRegistrantsOnly, ExclusiveAccessAllRegistrants:
		return true
	default:
		return false
	}
}

// nexusID names an I_T nexus for registrations, which outlive sessions: the
// initiator port (iSCSI name and ISID) and the target port (its relative
// identifier), SPC-5 5.14.1.
type nexusID struct {
	name string
	isid [6]byte
	port uint16
}

// identity returns the nexusID of an I_T nexus; nil has the zero one.
func (itn *ITNexus) identity() nexusID {
	if itn == nil {
		return nexusID{}
	}
	// iSCSI names are compared after case folding, RFC 7143 4.2.7.1, and a
	// TransportID may bring one in capitals.
	return nexusID{strings.ToLower(itn.InitiatorName), itn.ISID, itn.RelativePort}
}

// registrant is one registered I_T nexus. The key is never zero.
type registrant struct {
	id  nexusID
	key uint64
}

// reservations is the persistent reservation state of a logical unit. It is
// immutable once it is a Port's: a change works on a clone and replaces the
// whole, so that nothing can be seen or left half done.
type reservations struct {
	generation uint32 // PRGENERATION
	aptpl      bool   // the last APTPL bit: the state is kept in the store

	// lost: the stored state could not be read. What it fenced is not known,
	// so everything is fenced, until REPLACE LOST RESERVATION or CLEAR.
	lost bool

	typ    ReservationType // noReservation: none is held
	holder nexusID         // unless typ is of the all registrants kind
	regs   []registrant    // in order of registration
}

// noReservations is the state of a new logical unit.
var noReservations = &reservations{}

func (s *reservations) clone() *reservations {
	n := *s
	n.regs = slices.Clone(s.regs)
	return &n
}

func (s *reservations) find(id nexusID) int {
	return slices.IndexFunc(s.regs, func(r registrant) bool { return r.id == id })
}

// key returns the reservation key of an I_T nexus; zero if it is not registered.
func (s *reservations) key(id nexusID) uint64 {
	if i := s.find(id); i >= 0 {
		return s.regs[i].key
	}
	return 0
}

// holds reports whether id is a persistent reservation holder.
func (s *reservations) holds(id nexusID) bool {
	switch {
	case s.typ == noReservation:
		return false
	case s.typ.allRegistrants():
		return s.find(id) >= 0
	default:
		return s.holder == id
	}
}

// denied returns the rights that the reservation takes from an I_T nexus,
// SPC-5 table 72 and SBC-4 table 13.
func (s *reservations) denied(id nexusID) rights {
	const all = rightRead | rightWrite | rightManage
	switch {
	case s.lost:
		return all
	case s.typ == noReservation, s.holds(id):
		return 0
	case s.typ.registrantsOnly() && s.find(id) >= 0:
		return 0
	case s.typ.exclusiveAccess():
		return all
	default:
		return rightWrite | rightManage
	}
}

// register sets the key of id. It returns false if there is no room.
func (s *reservations) register(id nexusID, key uint64) bool {
	if i := s.find(id); i >= 0 {
		s.regs[i].key = key
		return true
	}
	if len(s.regs) >= maxRegistrants {
		return false
	}
	s.regs = append(s.regs, registrant{id, key})
	return true
}

// unregister removes a registration, and with it the reservation if no holder
// is left, SPC-5 5.14.11.2.2. It returns the type of a reservation that ended.
func (s *reservations) unregister(id nexusID) (ended ReservationType) {
	i := s.find(id)
	if i < 0 {
		return noReservation
	}
	last := s.holds(id) && (!s.typ.allRegistrants() || len(s.regs) == 1)
	s.regs = slices.Delete(s.regs, i, i+1)
	if !last {
		return noReservation
	}
	return s.release()
}

// release ends the reservation and returns its type.
func (s *reservations) release() (ended ReservationType) {
	ended = s.typ
	s.typ, s.holder = noReservation, nexusID{}
	return ended
}

// Registration is one registered I_T nexus, as Port.Reservations tells it.
type Registration struct {
	InitiatorName string
	ISID          [6]byte
	RelativePort  uint16
	Key           uint64
	Holder        bool // is a persistent reservation holder
}

// Reservations is a copy of the reservation state of a logical unit.
type Reservations struct {
	Generation    uint32          // PRGENERATION
	Persistent    bool            // kept through a restart (APTPL)
	Lost          bool            // the stored state was damaged: every initiator is fenced
	Type          ReservationType // of the persistent reservation; 0 if there is none
	Registrations []Registration
	Reserved      string // name of the initiator with an SPC-2 reservation; empty if there is none
}

// Reservations returns the reservation state, for consoles and metrics.
func (p *Port) Reservations() Reservations {
	s := p.pr.Load()
	r := Reservations{Generation: s.generation, Persistent: s.aptpl, Lost: s.lost, Type: s.typ}
	for _, x := range s.regs {
		r.Registrations = append(r.Registrations, Registration{
			InitiatorName: x.id.name, ISID: x.id.isid, RelativePort: x.id.port,
			Key: x.key, Holder: s.holds(x.id),
		})
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.reserved != nil {
		r.Reserved = p.reserved.InitiatorName
	}
	return r
}
