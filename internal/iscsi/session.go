package iscsi

import (
	"slices"
	"sync/atomic"

	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// Session is one I_T nexus, RFC 7143 §4.4.1: what its connections share. With
// one connection per session it is owned by that connection's context; only
// the LUN map may be replaced from elsewhere.
type Session struct {
	Nexus     *scsi.ITNexus // nil in a discovery session
	Identity  login.Identity
	TSIH      uint16
	Discovery bool
	// ProtocolLevel is the iSCSIProtocolLevel that was negotiated, RFC 7143 §13.24.
	ProtocolLevel int

	luns   atomic.Pointer[LUNMap]
	window window
}

// LUNMap is what the initiator of a session sees: its I_T_L nexuses, indexed
// by the flat LUN. A map is immutable once it is given to a session.
type LUNMap []*scsi.Nexus

// Lookup returns the nexus of a LUN, or nil.
func (m *LUNMap) Lookup(l pdu.LUN) *scsi.Nexus {
	if m == nil {
		return nil
	}
	n, ok := l.Flat()
	if !ok || int(n) >= len(*m) {
		return nil
	}
	return (*m)[n]
}

// Inventory lists the LUNs of the map in ascending order.
func (m *LUNMap) Inventory() []uint16 {
	if m == nil {
		return nil
	}
	var out []uint16
	for i, n := range *m {
		if n != nil {
			out = append(out, uint16(i))
		}
	}
	return out
}

// NewSession returns a session with an empty LUN map that keeps at most depth
// commands in flight.
func NewSession(depth int) *Session {
	return &Session{window: window{depth: uint32(depth)}}
}

// LUNs returns the current LUN map. Commands that are under way keep the nexus
// they started with.
func (s *Session) LUNs() *LUNMap { return s.luns.Load() }

// NexusOf returns the session's nexus with a logical unit, or nil.
func (s *Session) NexusOf(p *scsi.Port) *scsi.Nexus {
	if m := s.LUNs(); m != nil {
		for _, n := range *m {
			if n != nil && n.Port() == p {
				return n
			}
		}
	}
	return nil
}

// Remap makes the LUN map anew: port gives the logical unit behind each LUN up
// to top, nil for none. Nexuses that stay as they are are kept; new ones are
// attached and shown to fresh, others detached. It reports whether there were any
// of either.
func (s *Session) Remap(port func(lun uint16) *scsi.Port, top int, fresh func(n *scsi.Nexus, lun uint16)) (changed bool) {
	old := s.LUNs()
	next := make(LUNMap, top+1)
	for i := range next {
		p := port(uint16(i))
		if p == nil {
			continue
		}
		if old != nil && i < len(*old) && (*old)[i] != nil && (*old)[i].Port() == p {
			next[i] = (*old)[i]
			continue
		}
		n := p.Attach(s.Nexus)
		n.Inventory = func() []uint16 { return s.LUNs().Inventory() }
		n.Peer = s.peer
		if s.ProtocolLevel >= protocolLevel7144 {
			n.TMF = scsi.TMF7144
		}
		fresh(n, uint16(i))
		next[i] = n
		changed = true
	}
	s.luns.Store(&next)
	if old == nil {
		return changed
	}
	for i, n := range *old {
		if n != nil && (i >= len(next) || next[i] != n) {
			n.Detach()
			changed = true
		}
	}
	return changed
}

// peer is the session's nexus with another of its LUNs, or nil.
func (s *Session) peer(lun uint16) *scsi.Nexus { return s.LUNs().Lookup(pdu.LUNOf(lun)) }

// DetachAll ends all nexuses of the session.
func (s *Session) DetachAll() {
	if m := s.luns.Swap(nil); m != nil {
		for _, n := range *m {
			if n != nil {
				n.Detach()
			}
		}
	}
}

// window is the command numbering of a session, RFC 7143 §4.2.2.1. MaxCmdSN
// follows the commands that are still unanswered, so that it is a real credit:
// a session never has more than depth of them.
type window struct {
	expCmdSN uint32
	depth    uint32
	active   uint32 // non-immediate commands without a response yet
	held     []heldPDU
}

// heldPDU is a command that came ahead of its turn (a gap in CmdSN), or, with
// skip, a CmdSN that counts as received although its command never ran
// (ABORT TASK for a command still on its way, RFC 7143 §11.5.5).
type heldPDU struct {
	cmdSN uint32
	skip  bool
	bhs   pdu.BHS
	ahs   []byte
	data  []byte

	remote RemoteBuffers
}

// maxHeld bounds the data of held commands, which no pool accounts for. With one
// connection per session a gap is a fault of the initiator.
const maxHeld = 1 << 20

func (w *window) heldBytes() (n int) {
	for i := range w.held {
		n += len(w.held[i].ahs) + len(w.held[i].data)
	}
	return n
}

// maxCmdSN never moves back: a new command raises expCmdSN and active alike.
func (w *window) maxCmdSN() uint32 { return w.expCmdSN + w.depth - w.active - 1 }

type order uint8

const (
	inOrder order = iota
	early         // inside the window, but an earlier one is missing
	outside       // to be ignored silently, RFC 7143 §4.2.2.1
)

// place tells what becomes of a numbered command. The expected one is outside
// too when the window is closed (MaxCmdSN = ExpCmdSN - 1).
func (w *window) place(cmdSN uint32) order {
	switch {
	case pdu.SNLess(cmdSN, w.expCmdSN), pdu.SNLess(w.maxCmdSN(), cmdSN):
		return outside
	case cmdSN == w.expCmdSN:
		return inOrder
	default:
		return early
	}
}

// hold keeps a command until its turn; a second one of the same CmdSN is a
// retry of the first and is dropped.
func (w *window) hold(p heldPDU) {
	for i := range w.held {
		if w.held[i].cmdSN == p.cmdSN {
			return
		}
	}
	w.held = append(w.held, p)
}

// next takes the held command whose turn has come.
func (w *window) next() (heldPDU, bool) {
	for i := range w.held {
		if p := w.held[i]; p.cmdSN == w.expCmdSN {
			w.held = append(w.held[:i], w.held[i+1:]...)
			return p, true
		}
	}
	return heldPDU{}, false
}

// holds reports whether a SCSI command that matches is held.
func (w *window) holds(match func(*pdu.BHS) bool) bool {
	return slices.ContainsFunc(w.held, func(p heldPDU) bool {
		return !p.skip && p.bhs.Opcode() == pdu.OpSCSICommand && match(&p.bhs)
	})
}

// skip takes the held SCSI commands out that match; their CmdSNs count as
// received. It returns how many there were.
func (w *window) skip(match func(*pdu.BHS) bool) (n int) {
	for i := range w.held {
		if p := &w.held[i]; !p.skip && p.bhs.Opcode() == pdu.OpSCSICommand && match(&p.bhs) {
			*p = heldPDU{cmdSN: p.cmdSN, skip: true}
			n++
		}
	}
	return n
}

// drop takes a held command out by its InitiatorTaskTag; its CmdSN counts as
// received.
func (w *window) drop(itt uint32) bool {
	for i := range w.held {
		if p := &w.held[i]; !p.skip && p.bhs.InitiatorTaskTag() == itt {
			*p = heldPDU{cmdSN: p.cmdSN, skip: true}
			return true
		}
	}
	return false
}
