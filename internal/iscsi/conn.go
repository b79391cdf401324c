package iscsi

import (
	"errors"
	"fmt"
	"sync"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

type connState uint8

const (
	inLogin   connState = iota // Login Requests only
	admitting                  // the node decides on the session; the initiator has to wait
	fullFeature
	loggedOut // the response to a Logout is queued; nothing is taken any more
	closed
)

// Errors that end a connection in an orderly way.
var (
	// ErrLoggedOut follows a Logout: send what is queued, then close.
	ErrLoggedOut = errors.New("logged out")
	// ErrLoginFailed follows a refused login: send what is queued, then close.
	ErrLoginFailed = errors.New("login failed")
)

// Conn is one connection of a session, RFC 7143 §4.2: its numbering, its tasks
// and what it does with each PDU. All methods are to be called in one context.
type Conn struct {
	dm   Datamover
	env  Env
	pool Pool

	state   connState
	login   *login.Machine
	refusal *login.Refusal
	session *Session
	params  login.Params
	statSN  uint32
	remote  RemoteBuffers // of the PDU in hand
	rdma    RDMA          // nil: the datamover is not one
	tap     Tap           // nil: nobody looks
	tracer  Tracer        // the same

	traffic *Traffic
	counted counted

	tasks map[uint32]*Task // tasks that wait for data or for a unit, by InitiatorTaskTag
	free  []*Task
	live  int // tasks taken from free
	begun begun

	orphans *Orphans

	header pdu.BHS // of a SCSI Response, while it is handed to the datamover
	sense  [2 + 252]byte

	batch int64 // scsi.Nanotime when the batch began

	immediates int // tasks with the I bit
	late       lateTags
	text       textExchange
	ping       pinger

	done struct { // filled by workers
		sync.Mutex
		tasks  []*Task
		spare  []*Task
		closed bool
	}
}

// Options are the means of a connection.
type Options struct {
	Datamover Datamover
	Env       Env
	Pool      Pool
	Login     *login.Machine
	Orphans   *Orphans // takes the commands that Close leaves to workers; may be nil
	Traffic   *Traffic // counts PDUs; nil: nobody wants to know
}

// NewConn returns a connection that waits for its first Login Request.
func NewConn(o Options) *Conn {
	c := &Conn{dm: o.Datamover, env: o.Env, pool: o.Pool, login: o.Login, tasks: make(map[uint32]*Task)}
	c.rdma, _ = o.Datamover.(RDMA)
	c.orphans = o.Orphans
	if c.traffic = o.Traffic; c.traffic == nil {
		c.traffic = new(Traffic)
	}
	return c
}

// Session is the session that the connection belongs to, nil before the login
// is through.
func (c *Conn) Session() *Session { return c.session }

// Params are the negotiated parameters, zero before the login is through.
func (c *Conn) Params() *login.Params { return &c.params }

// Refusal tells the operator why the login failed, nil if it did not.
func (c *Conn) Refusal() *login.Refusal { return c.refusal }

// LoggedIn reports whether the connection is in the full feature phase.
func (c *Conn) LoggedIn() bool { return c.state == fullFeature }

// Outstanding is the number of tasks that are not ended.
func (c *Conn) Outstanding() int { return c.live }

// Begin announces a PDU whose header is here and whose data segment is not. It
// returns where the data goes (a slice as long as the segment), or nil when
// the datamover is to gather the segment itself. Either way Receive follows
// with the whole PDU. Begin is for PDUs in the full feature phase only.
func (c *Conn) Begin(h *pdu.BHS, ahs []byte) ([]byte, error) {
	if c.state != fullFeature {
		return nil, nil
	}
	switch h.Opcode() {
	case pdu.OpSCSICommand:
		return c.beginCommand(h, ahs)
	case pdu.OpDataOut:
		return c.beginUnsolicited(h)
	default:
		return nil, nil
	}
}

// Receive takes one whole PDU. It borrows all its arguments. An error means
// that the connection is to be closed, after sending what is queued.
func (c *Conn) Receive(h *pdu.BHS, ahs, data []byte) error {
	switch c.state {
	case inLogin:
		return c.receiveLogin(h, data)
	case admitting:
		return fmt.Errorf("%v while the login awaits its answer", h.Opcode())
	case fullFeature:
		return c.receive(h, ahs, data)
	default:
		return nil
	}
}

func (c *Conn) receive(h *pdu.BHS, ahs, data []byte) error {
	op := h.Opcode()
	if op == pdu.OpDataOut {
		return c.receiveUnsolicited(h, data)
	}
	if c.begun.open {
		return c.receiveBegun(data)
	}
	switch op {
	case pdu.OpSCSICommand, pdu.OpTaskManagementRequest, pdu.OpTextRequest, pdu.OpLogoutRequest, pdu.OpNOPOut:
	case pdu.OpSNACK:
		// ErrorRecoveryLevel 0 knows no SNACK, RFC 7143 §7.2.
		c.reject(h, pdu.RejectSNACK)
		return nil
	case pdu.OpLoginRequest:
		return errors.New("a Login Request in the full feature phase")
	default:
		c.reject(h, pdu.RejectCommandNotSupported)
		return nil
	}
	if h.Immediate() {
		return c.dispatch(h, ahs, data)
	}
	return c.inTurn(h, ahs, data)
}

// inTurn runs a numbered PDU when its CmdSN is the next one, and after it
// those that were held for it.
func (c *Conn) inTurn(h *pdu.BHS, ahs, data []byte) error {
	w := &c.session.window
	switch w.place(h.CmdSN()) {
	case outside:
		return nil
	case early:
		if w.heldBytes()+len(ahs)+len(data) > maxHeld {
			return fmt.Errorf("more than %d bytes sent ahead of CmdSN %d, which is missing", maxHeld, w.expCmdSN)
		}
		w.hold(heldPDU{
			cmdSN: h.CmdSN(), bhs: *h,
			ahs: append([]byte(nil), ahs...), data: append([]byte(nil), data...),
			remote: c.remote,
		})
		return nil
	default:
	}
	w.expCmdSN++
	if err := c.dispatch(h, ahs, data); err != nil {
		return err
	}
	if len(w.held) == 0 {
		return nil
	}
	return c.runHeld()
}

func (c *Conn) runHeld() error {
	w := &c.session.window
	for {
		p, ok := w.next()
		if !ok {
			return nil
		}
		w.expCmdSN++
		if p.skip {
			continue
		}
		c.remote = p.remote
		if err := c.dispatch(&p.bhs, p.ahs, p.data); err != nil {
			return err
		}
	}
}

func (c *Conn) dispatch(h *pdu.BHS, ahs, data []byte) error {
	switch h.Opcode() {
	case pdu.OpSCSICommand:
		return c.command(h, ahs, data)
	case pdu.OpTaskManagementRequest:
		return c.taskManagement(h)
	case pdu.OpTextRequest:
		return c.textRequest(h, data)
	case pdu.OpLogoutRequest:
		return c.logout(h)
	default:
		return c.nopOut(h, data)
	}
}

// stamp fills the numbers that every target PDU with a status carries.
func (c *Conn) stamp(h *pdu.BHS) {
	h.SetStatSN(c.statSN)
	c.statSN++
	c.StampWindow(h)
}

// NextStatSN gives the StatSN of a PDU that carries status, and moves on.
func (c *Conn) NextStatSN() uint32 {
	s := c.statSN
	c.statSN++
	return s
}

// StatSN is the StatSN that the next status will carry.
func (c *Conn) StatSN() uint32 { return c.statSN }

// StampWindow fills ExpCmdSN and MaxCmdSN as they stand now.
func (c *Conn) StampWindow(h *pdu.BHS) {
	w := &c.session.window
	h.SetExpCmdSN(w.expCmdSN)
	h.SetMaxCmdSN(w.maxCmdSN())
}

// reject answers a PDU that can't be taken with its own header, RFC 7143 §11.17.
func (c *Conn) reject(bad *pdu.BHS, why pdu.RejectReason) {
	var h pdu.BHS
	(&pdu.Reject{Reason: why, DataLen: pdu.BHSLen}).Encode(&h)
	c.stamp(&h)
	c.dm.SendControl(&h, bad[:])
}

// Reject lets the datamover answer a PDU that it refuses itself.
func (c *Conn) Reject(bad *pdu.BHS, why pdu.RejectReason) { c.reject(bad, why) }

// Close ends all tasks without an answer. Tasks that a unit's worker still
// runs keep their buffer and their range lock until the worker is through.
func (c *Conn) Close() {
	if c.state == closed {
		return
	}
	c.state = closed
	if t := c.begun.task; t != nil && t.state != taskFree {
		t.drop()
	}
	c.begun = begun{}
	// Workers touch their tasks only from closed on, so what they run must be
	// sorted out before.
	for itt, t := range c.tasks {
		delete(c.tasks, itt)
		if t.state == taskRunning && !t.Abort() {
			t.forsake()
			continue // Done drops it
		}
		if c.rdma != nil && t.placing {
			if t.landing != nil {
				t.forsake()
			}
			continue // Arrived drops it
		}
		t.drop()
	}
	c.done.Lock()
	c.done.closed = true
	finished := c.done.tasks
	c.done.tasks = nil
	c.done.Unlock()
	for _, t := range finished {
		t.dropRun()
	}
}

// dropRun is drop for a task that a worker has run after its connection's end.
func (t *Task) dropRun() {
	t.drop()
	t.forsaken()
}

// forsake counts a task whose connection goes and that may change the medium still;
// forsaken, that this is over.
func (t *Task) forsake() {
	if o := t.conn.orphans; o != nil {
		t.orphan = true
		o.add(t.Nexus.Port())
	}
}

func (t *Task) forsaken() {
	if t.orphan {
		t.orphan = false
		t.conn.orphans.remove(t.Nexus.Port())
	}
}

// drop gives back what a task holds, for a connection that is gone.
func (t *Task) drop() {
	t.state = taskFree
	t.meter.Lost()
	t.Release()
	t.landing = nil
	if t.buf != nil {
		t.buf.Release()
		t.buf = nil
	}
}
