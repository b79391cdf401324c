package initiator

import (
	"context"
	"errors"
	"fmt"
	"sync"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// Errors of a session.
var (
	// ErrClosed: the session was closed or logged out by its user.
	ErrClosed = errors.New("initiator: session is closed")
	// ErrAborted: the task was aborted by a task management function.
	ErrAborted = errors.New("initiator: task was aborted")
	// ErrProtocol: the target broke the protocol; at ErrorRecoveryLevel 0 the
	// session ends (RFC 7143 §7.1.4.1).
	ErrProtocol = errors.New("initiator: protocol error by the target")
)

// RejectError is a PDU of ours that the target rejected, RFC 7143 §11.17.
type RejectError struct {
	Reason pdu.RejectReason
	Header pdu.BHS // of the rejected PDU
}

// Error names the reason and the rejected PDU.
func (e *RejectError) Error() string {
	return fmt.Sprintf("initiator: %v rejected: %v", e.Header.Opcode(), e.Reason)
}

// Session is a session in the full feature phase. Its methods may be called by
// many goroutines at once. One goroutine of its own reads the connection; it
// ends with the connection.
//
// Lock order: wmu before mu.
type Session struct {
	c *Conn
	o Options
	r LoginResult

	wmu  sync.Mutex // held from taking a CmdSN until the PDU is written: CmdSN order is wire order
	wbuf []byte

	mu        sync.Mutex // guards all below
	tasks     map[uint32]*Task
	nextTag   uint32
	cmdSN     uint32
	expCmdSN  uint32
	maxCmdSN  uint32
	expStatSN uint32
	window    chan struct{} // closed and replaced when MaxCmdSN grows
	pings     []ping        // NOP-In of the target, not answered yet
	err       error

	done chan struct{} // closed when the reader has ended
}

// ping is what an answer to a target's NOP-In repeats, §11.18.
type ping struct {
	lun  pdu.LUN
	ttt  uint32
	data []byte
}

// Login takes c, negotiates and starts a session. On error c is closed.
func Login(ctx context.Context, c *Conn, o Options) (*Session, error) {
	r, err := Negotiate(ctx, c, o)
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	s := &Session{
		c: c, o: o.withDefaults(), r: *r,
		tasks: make(map[uint32]*Task), nextTag: 1,
		cmdSN: r.CmdSN, expCmdSN: r.ExpCmdSN, maxCmdSN: r.MaxCmdSN, expStatSN: r.ExpStatSN,
		window: make(chan struct{}), done: make(chan struct{}),
	}
	go s.read()
	return s, nil
}

// Connect dials the URL's address and logs in with the URL's options as
// changed by adjust, which may be nil.
func Connect(ctx context.Context, u URL, adjust func(*Options)) (*Session, error) {
	o := u.Options()
	if adjust != nil {
		adjust(&o)
	}
	c, err := Dial(ctx, u.Address)
	if err != nil {
		return nil, err
	}
	return Login(ctx, c, o)
}

// Params returns what was negotiated.
func (s *Session) Params() login.Params { return s.r.Params }

// LoginResult returns all that the login phase gave.
func (s *Session) LoginResult() LoginResult { return s.r }

// Conn returns the session's connection, borrowed: for tests that write wrong
// PDUs into a live session. Reading from it is the session's business.
func (s *Session) Conn() *Conn { return s.c }

// Numbers are a session's sequence numbers at one moment.
type Numbers struct{ CmdSN, ExpCmdSN, MaxCmdSN, ExpStatSN uint32 }

// Numbers returns the sequence numbers; CmdSN is the next one to be used.
func (s *Session) Numbers() Numbers {
	s.mu.Lock()
	defer s.mu.Unlock()
	return Numbers{CmdSN: s.cmdSN, ExpCmdSN: s.expCmdSN, MaxCmdSN: s.maxCmdSN, ExpStatSN: s.expStatSN}
}

// Done is closed when the session has ended; Err then says why.
func (s *Session) Done() <-chan struct{} { return s.done }

// Err returns why the session ended, nil while it lives.
func (s *Session) Err() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.err
}

// Close drops the connection without a logout and waits for the reader's end.
func (s *Session) Close() error {
	s.fail(ErrClosed)
	<-s.done
	return nil
}

// fail ends the session for the reason err; the first reason stays.
func (s *Session) fail(err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.err != nil {
		return
	}
	s.err = err
	_ = s.c.Close()
	for tag, t := range s.tasks {
		delete(s.tasks, tag)
		t.finish(err)
	}
	close(s.window)
}

// request is a PDU under construction: encode puts the numbers in that are
// only known when the PDU is about to be written.
type request struct {
	immediate bool
	encode    func(h *pdu.BHS, tag, cmdSN, expStatSN uint32)
	ahs, data []byte
	// after appends what has to follow at once (unsolicited Data-Out).
	after func(dst []byte, tag, expStatSN uint32) []byte
}

// start waits for the command window (§4.2.2.1), registers t and writes the
// PDU. It returns the InitiatorTaskTag.
func (s *Session) start(ctx context.Context, t *Task, r request) error {
	for {
		open, err := s.tryStart(t, r)
		if err != nil || open == nil {
			return err
		}
		select {
		case <-open:
		case <-ctx.Done():
			return context.Cause(ctx)
		}
	}
}

// tryStart does start's work, or returns a channel that is closed when the
// window may have opened.
func (s *Session) tryStart(t *Task, r request) (<-chan struct{}, error) {
	s.wmu.Lock()
	defer s.unlockWrite()
	s.mu.Lock()
	if s.err != nil {
		s.mu.Unlock()
		return nil, s.err
	}
	if !r.immediate && pdu.SNLess(s.maxCmdSN, s.cmdSN) {
		defer s.mu.Unlock()
		return s.window, nil
	}
	cmdSN, expStatSN := s.cmdSN, s.expStatSN
	if !r.immediate {
		s.cmdSN++
	}
	if t.tag == 0 { // else a text exchange goes on
		t.tag = s.newTag()
	}
	s.tasks[t.tag] = t
	s.mu.Unlock()

	var h pdu.BHS
	r.encode(&h, t.tag, cmdSN, expStatSN)
	s.wbuf = s.c.AppendPDU(s.wbuf[:0], &h, r.ahs, r.data)
	if r.after != nil {
		s.wbuf = r.after(s.wbuf, t.tag, expStatSN)
	}
	return nil, s.write()
}

// newTag returns an InitiatorTaskTag that is not in use (mu held).
func (s *Session) newTag() uint32 {
	for {
		tag := s.nextTag
		s.nextTag++
		if _, used := s.tasks[tag]; !used && tag != pdu.ReservedTag && tag != 0 {
			return tag
		}
	}
}

// write sends wbuf (wmu held).
func (s *Session) write() error {
	if err := s.c.Write(s.wbuf); err != nil {
		s.fail(err)
		return s.Err()
	}
	return nil
}

// unlockWrite answers the pings that came while wmu was held, then releases
// it. The reader never waits for wmu: a target that stops reading until its
// own output is taken would otherwise hang us.
func (s *Session) unlockWrite() {
	for {
		s.mu.Lock()
		if len(s.pings) == 0 || s.err != nil {
			s.wmu.Unlock() // under mu: no ping can slip in between
			s.mu.Unlock()
			return
		}
		pings := s.pings
		s.pings = nil
		cmdSN, expStatSN := s.cmdSN, s.expStatSN
		s.mu.Unlock()

		s.wbuf = s.wbuf[:0]
		for _, p := range pings {
			out := pdu.NOPOut{
				Immediate: true, LUN: p.lun, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: p.ttt,
				CmdSN: cmdSN, ExpStatSN: expStatSN, DataLen: len(p.data),
			}
			var h pdu.BHS
			out.Encode(&h)
			s.wbuf = s.c.AppendPDU(s.wbuf, &h, nil, p.data)
		}
		_ = s.write() // its error ends the session
	}
}
