package api

import (
	"context"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/pprof"
	"strconv"
	"time"

	_ "embed"
)

// Daemon is what the interface shows and operates. Errors wrap ErrNotFound,
// ErrConflict, ErrForbidden and ErrInvalid as it fits, anything else is the
// daemon's own trouble. All methods are safe for concurrent use.
type Daemon interface {
	Status(ctx context.Context) (*Status, error)
	Portals(ctx context.Context) ([]Portal, error)
	Targets(ctx context.Context) ([]Target, error)
	Sessions(ctx context.Context) ([]Session, error)
	Actors(ctx context.Context) ([]Actor, error)
	Actor(ctx context.Context, path string) (*Actor, error)
	Faults(ctx context.Context) ([]Fault, error)
	Refusals(ctx context.Context) ([]Refusal, error)
	Logins(ctx context.Context) (map[string]uint64, error) // by status, four hexadecimal digits
	Totals(ctx context.Context) (*Totals, error)
	Ping(ctx context.Context) error

	EnsureTarget(ctx context.Context, name string, spec *TargetSpec) (made bool, err error)
	DeleteTarget(ctx context.Context, name string) error
	EnsureLUN(ctx context.Context, target string, spec *LUNSpec) (made bool, err error)
	DeleteLUN(ctx context.Context, target string, lun uint16) error
	ResizeLUN(ctx context.Context, target string, lun uint16, size string) error
	SetTargetOffline(ctx context.Context, target string, offline bool) error
	SetLUNOffline(ctx context.Context, target string, lun uint16, offline bool) error
	ClearReservations(ctx context.Context, target string, lun uint16) error
	SetALUA(ctx context.Context, target string, lun uint16, group string, change *ALUAChange) error
	Logout(ctx context.Context, tsih uint16, force bool) error
	ActorDo(ctx context.Context, path, what string) error // restart, stop
	// Inject causes a fault in an actor: panic, stop, or delay for a time.
	Inject(ctx context.Context, path, fault string, delay time.Duration) error

	LogLevels(ctx context.Context) (*LogLevels, error)
	SetLogLevels(ctx context.Context, l *LogLevels) error
	ConfigText(ctx context.Context) ([]byte, error) // HCL, without secrets
	Plan(ctx context.Context) (*Plan, error)        // not nil when the error is ErrInvalid
	Reload(ctx context.Context) (*Plan, error)      // the same

	// Capture writes PDUs as pcapng until ctx ends or w fails. An error comes before
	// anything is written, or from w.
	Capture(ctx context.Context, w io.Writer, o *CaptureOptions) error

	// Trace calls f for the commands that o lets through until ctx ends or f fails,
	// and once with nil when it has begun.
	Trace(ctx context.Context, o *TraceOptions, f func(*Trace) error) error

	// Subscribe has f called for each event; f must not block.
	Subscribe(f func(Event)) (cancel func())
	// KeptEvents are the latest events, oldest first.
	KeptEvents() []Event
}

// Totals are counters of the process.
type Totals struct {
	ActorsSpawned, ActorFailures, ActorRestarts, ActorsGaveUp uint64
	BufferBytes, BufferLimit                                  int64
	PDUs                                                      map[PDUKind]uint64
	DigestErrors                                              map[string]uint64 // header, data
	RDMA                                                      []RDMADevice
}

// PDUKind is the opcode and the direction, in or out, of PDUs.
type PDUKind struct{ Opcode, Dir string }

// RDMADevice is what is held of an RDMA device, and has been done with it.
type RDMADevice struct {
	Device                                      string
	QueuePairs, CompletionQueues, MemoryRegions int
	Registered, InUse                           int64 // bytes
	Completions                                 uint64
	Failed                                      map[string]uint64 // by the error
}

// What errors of a Daemon wrap, and of the Client.
var (
	ErrNotFound  = errors.New("not found")
	ErrConflict  = errors.New("conflict")
	ErrForbidden = errors.New("not allowed")
	ErrInvalid   = errors.New("invalid")
)

// maxBody bounds the body of a request, in bytes.
const maxBody = 1 << 20

// Description is the OpenAPI 3.1 document of the interface.
//
//go:embed openapi.json
var Description []byte

// NewHandler returns the interface of d.
func NewHandler(d Daemon, scope Scope) http.Handler { return newServer(d, scope).mux }

func newServer(d Daemon, scope Scope) *server {
	s := &server{d: d, scope: scope, live: newLive(d), mux: http.NewServeMux()}
	s.reading()
	if scope >= Operator {
		s.operating()
	}
	if scope >= Admin {
		s.changing()
	}
	if scope == AdminLocal {
		s.handle("GET /debug/pprof/", pprof.Index)
		s.handle("GET /debug/pprof/profile", pprof.Profile)
		s.handle("GET /debug/pprof/trace", pprof.Trace)
	}
	return s
}

type server struct {
	d      Daemon
	scope  Scope
	token  bool // of Access
	live   *live
	mux    *http.ServeMux
	routes []string // patterns, for the test of the description
}

func (s *server) handle(pattern string, f http.HandlerFunc) {
	s.routes = append(s.routes, pattern)
	s.mux.HandleFunc(pattern, f)
}

// get serves what f returns as JSON.
func get[T any](s *server, path string, f func(context.Context) (T, error)) {
	s.handle("GET "+path, func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r.Context())
		answer(w, http.StatusOK, v, err)
	})
}

// one serves what f returns for the path values of a request.
func (s *server) one(pattern string, f func(*http.Request) (any, error)) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
		v, err := f(r)
		answer(w, http.StatusOK, v, err)
	})
}

func (s *server) reading() {
	get(s, "/v1/access", s.access)
	get(s, "/v1/status", s.d.Status)
	get(s, "/v1/portals", s.d.Portals)
	get(s, "/v1/targets", s.d.Targets)
	get(s, "/v1/sessions", s.d.Sessions)
	get(s, "/v1/actors", s.d.Actors)
	get(s, "/v1/faults", s.d.Faults)
	get(s, "/v1/refusals", s.d.Refusals)
	get(s, "/v1/logins", s.d.Logins)
	s.one("GET /v1/targets/{target}", func(r *http.Request) (any, error) { return s.target(r) })
	s.one("GET /v1/targets/{target}/luns/{lun}", func(r *http.Request) (any, error) { return s.lun(r) })
	s.one("GET /v1/sessions/{tsih}", func(r *http.Request) (any, error) { return s.session(r) })
	s.one("GET /v1/actors/{path...}", func(r *http.Request) (any, error) { return s.d.Actor(r.Context(), r.PathValue("path")) })
	s.handle("GET /v1/events", s.events)
	s.handle("GET /metrics", s.metrics)
	s.handle("GET /healthz", func(w http.ResponseWriter, r *http.Request) {
		answer(w, http.StatusOK, map[string]string{"status": "ok"}, s.d.Ping(r.Context()))
	})
	s.handle("GET /openapi.json", func(w http.ResponseWriter, _ *http.Request) {
		w.Header().Set("Content-Type", "application/json")
		_, _ = w.Write(Description)
	})
}

// operating is what an operator may do besides reading.
func (s *server) operating() {
	s.onLUN("POST /v1/targets/{target}/luns/{lun}/offline", func(ctx context.Context, _ *http.Request, t string, n uint16) error {
		return s.d.SetLUNOffline(ctx, t, n, true)
	})
	s.onLUN("POST /v1/targets/{target}/luns/{lun}/online", func(ctx context.Context, _ *http.Request, t string, n uint16) error {
		return s.d.SetLUNOffline(ctx, t, n, false)
	})
	s.do("DELETE /v1/sessions/{tsih}", func(r *http.Request) error {
		n, err := number(r, "tsih")
		if err != nil {
			return err
		}
		return s.d.Logout(r.Context(), n, r.URL.Query().Get("force") == "true")
	})
	s.handle("GET /v1/config/plan", func(w http.ResponseWriter, r *http.Request) { planned(w, r, s.d.Plan) })
	s.handle("POST /v1/config/reload", func(w http.ResponseWriter, r *http.Request) { planned(w, r, s.d.Reload) })
}

// onLUN serves a request about a LUN without an answer.
func (s *server) onLUN(pattern string, f func(ctx context.Context, r *http.Request, target string, lun uint16) error) {
	s.do(pattern, func(r *http.Request) error {
		n, err := number(r, "lun")
		if err != nil {
			return err
		}
		return f(r.Context(), r, r.PathValue("target"), n)
	})
}

func (s *server) changing() {
	s.handle("PUT /v1/targets/{target}", s.putTarget)
	s.handle("PUT /v1/targets/{target}/luns/{lun}", s.putLUN)
	s.do("DELETE /v1/targets/{target}", func(r *http.Request) error { return s.d.DeleteTarget(r.Context(), r.PathValue("target")) })
	s.do("POST /v1/targets/{target}/offline", func(r *http.Request) error {
		return s.d.SetTargetOffline(r.Context(), r.PathValue("target"), true)
	})
	s.do("POST /v1/targets/{target}/online", func(r *http.Request) error {
		return s.d.SetTargetOffline(r.Context(), r.PathValue("target"), false)
	})
	s.onLUN("DELETE /v1/targets/{target}/luns/{lun}", func(ctx context.Context, _ *http.Request, t string, n uint16) error {
		return s.d.DeleteLUN(ctx, t, n)
	})
	s.onLUN("POST /v1/targets/{target}/luns/{lun}/resize", func(ctx context.Context, r *http.Request, t string, n uint16) error {
		var body struct {
			Size string `json:"size"`
		}
		if err := decode(r, &body); err != nil {
			return err
		}
		return s.d.ResizeLUN(ctx, t, n, body.Size)
	})
	s.onLUN("DELETE /v1/targets/{target}/luns/{lun}/reservations", func(ctx context.Context, _ *http.Request, t string, n uint16) error {
		return s.d.ClearReservations(ctx, t, n)
	})
	s.onLUN("POST /v1/targets/{target}/luns/{lun}/alua/{group}", func(ctx context.Context, r *http.Request, t string, n uint16) error {
		var body ALUAChange
		if err := decode(r, &body); err != nil {
			return err
		}
		return s.d.SetALUA(ctx, t, n, r.PathValue("group"), &body)
	})
	s.do("POST /v1/actors/{path...}", func(r *http.Request) error {
		q := r.URL.Query()
		if q.Get("do") != "inject" {
			return s.d.ActorDo(r.Context(), r.PathValue("path"), q.Get("do"))
		}
		d, err := duration(q, "for")
		if err != nil {
			return err
		}
		return s.d.Inject(r.Context(), r.PathValue("path"), q.Get("fault"), d)
	})
	s.handle("GET /v1/capture", s.capture)
	s.handle("GET /v1/trace", s.trace)
	get(s, "/v1/log", s.d.LogLevels)
	s.do("PUT /v1/log", func(r *http.Request) error {
		var l LogLevels
		if err := decode(r, &l); err != nil {
			return err
		}
		return s.d.SetLogLevels(r.Context(), &l)
	})
	s.handle("GET /v1/config", s.config)
}

// do serves a request without an answer.
func (s *server) do(pattern string, f func(*http.Request) error) {
	s.handle(pattern, func(w http.ResponseWriter, r *http.Request) {
		if err := f(r); err != nil {
			answer(w, 0, nil, err)
			return
		}
		w.WriteHeader(http.StatusNoContent)
	})
}

func (s *server) target(r *http.Request) (*Target, error) {
	all, err := s.d.Targets(r.Context())
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].Name == r.PathValue("target") {
			return &all[i], nil
		}
	}
	return nil, problemf(ErrNotFound, "there is no target %s", r.PathValue("target"))
}

func (s *server) lun(r *http.Request) (*LUN, error) {
	t, err := s.target(r)
	if err != nil {
		return nil, err
	}
	n, err := number(r, "lun")
	if err != nil {
		return nil, err
	}
	for i := range t.LUNs {
		if t.LUNs[i].Number == n {
			return &t.LUNs[i], nil
		}
	}
	return nil, problemf(ErrNotFound, "target %s has no LUN %d", t.Name, n)
}

func (s *server) session(r *http.Request) (*Session, error) {
	n, err := number(r, "tsih")
	if err != nil {
		return nil, err
	}
	all, err := s.d.Sessions(r.Context())
	if err != nil {
		return nil, err
	}
	for i := range all {
		if all[i].TSIH == n {
			return &all[i], nil
		}
	}
	return nil, problemf(ErrNotFound, "there is no session %d", n)
}

func (s *server) putTarget(w http.ResponseWriter, r *http.Request) {
	var spec TargetSpec
	if err := decode(r, &spec); err != nil {
		answer(w, 0, nil, err)
		return
	}
	made, err := s.d.EnsureTarget(r.Context(), r.PathValue("target"), &spec)
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	t, err := s.target(r)
	answer(w, created(made), t, err)
}

func (s *server) putLUN(w http.ResponseWriter, r *http.Request) {
	var spec LUNSpec
	n, err := number(r, "lun")
	if err == nil {
		err = decode(r, &spec)
	}
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	spec.Number = n
	made, err := s.d.EnsureLUN(r.Context(), r.PathValue("target"), &spec)
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	l, err := s.lun(r)
	answer(w, created(made), l, err)
}

func created(made bool) int {
	if made {
		return http.StatusCreated
	}
	return http.StatusOK
}

func (s *server) config(w http.ResponseWriter, r *http.Request) {
	text, err := s.d.ConfigText(r.Context())
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = w.Write(text)
}

// planned answers with a plan, also when the configuration is invalid: the
// diagnostics are in it.
func planned(w http.ResponseWriter, r *http.Request, f func(context.Context) (*Plan, error)) {
	p, err := f(r.Context())
	if err != nil && p != nil && errors.Is(err, ErrInvalid) {
		answer(w, 0, nil, &diagnosed{err, p.Diagnostics})
		return
	}
	answer(w, http.StatusOK, p, err)
}

// diagnosed is an error with places in the configuration.
type diagnosed struct {
	error
	diags []Diagnostic
}

func (d *diagnosed) Unwrap() error { return d.error }

func number(r *http.Request, name string) (uint16, error) {
	n, err := strconv.ParseUint(r.PathValue(name), 0, 16)
	if err != nil {
		return 0, problemf(ErrInvalid, "%s: %q is not a number", name, r.PathValue(name))
	}
	return uint16(n), nil
}

func decode(r *http.Request, into any) error {
	d := json.NewDecoder(http.MaxBytesReader(nil, r.Body, maxBody))
	d.DisallowUnknownFields()
	if err := d.Decode(into); err != nil {
		return problemf(ErrInvalid, "body: %v", err)
	}
	return nil
}

// answer writes v, or what went wrong.
func answer(w http.ResponseWriter, status int, v any, err error) {
	if err != nil {
		p := Problem{Error: err.Error()}
		if d, ok := errors.AsType[*diagnosed](err); ok {
			p.Diagnostics = d.diags
		}
		v, status = p, statusOf(err)
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_ = json.NewEncoder(w).Encode(v) // the client is gone, or it is the client's turn
}

func statusOf(err error) int {
	switch {
	case errors.Is(err, ErrNotFound):
		return http.StatusNotFound
	case errors.Is(err, ErrConflict):
		return http.StatusConflict
	case errors.Is(err, ErrForbidden):
		return http.StatusForbidden
	case errors.Is(err, ErrInvalid):
		return http.StatusUnprocessableEntity
	default:
		return http.StatusInternalServerError
	}
}
