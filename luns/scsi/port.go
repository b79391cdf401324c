package scsi

import (
	"context"
	"fmt"
	"sync"
	"sync/atomic"
)

// Closed says how a Port without a Unit answers.
type Closed uint8

// The answers of a Port without a Unit.
const (
	// ClosedBusy: BUSY, the initiator retries. The state of a new Port, and
	// during a restart of the logical unit.
	ClosedBusy Closed = iota
	// ClosedFailed: NOT READY, MANUAL INTERVENTION REQUIRED. The logical unit
	// has failed for good.
	ClosedFailed
	// ClosedGone: LOGICAL UNIT NOT SUPPORTED, which initiators take as
	// permanent device loss.
	ClosedGone
)

// String returns the name of the state, or its number.
func (s Closed) String() string {
	switch s {
	case ClosedBusy:
		return "busy"
	case ClosedFailed:
		return "failed"
	case ClosedGone:
		return "gone"
	default:
		return fmt.Sprintf("Closed(%d)", uint8(s))
	}
}

// Port is the data port of a logical unit: stable for sessions, which attach
// to it, and revocable for the owner of the logical unit, who publishes one
// Unit at a time behind it. All methods are safe for concurrent use.
type Port struct {
	unit   atomic.Pointer[Unit]
	closed atomic.Uint32 // a Closed: the answer while unit is nil

	// Fault is called when a command panicked: with the value and the stack.
	// The command has been answered HARDWARE ERROR 44h/00h. It runs on the
	// goroutine of the command and must not block. It is set before the first
	// command; nil drops the report.
	Fault func(value any, stack []byte)

	// AbortTasks is the task manager's part of PREEMPT AND ABORT, SPC-5
	// 5.14.11.2.5: it ends every command of the nexuses without a response and
	// calls done, once, when none of them can touch the unit any more. It is
	// called on a worker and must not block; done may be called on any
	// goroutine. COMMANDS CLEARED BY ANOTHER INITIATOR for those that lost
	// commands is its part too, or with TAS one the status TASK ABORTED for each of
	// them (SAM-6 5.14); REGISTRATIONS PREEMPTED has been established when it is
	// called. It is set before the first command. Without it the device
	// server by itself sees to it that no command of these nexuses touches
	// the medium after the GOOD of PREEMPT AND ABORT; those that had not begun
	// finish with TASK ABORTED.
	AbortTasks func(nexuses []*Nexus, done func())

	tasks taskSet

	// Reservations live here and not in the Unit: a restart of the logical
	// unit does not lift a fence. pr is replaced with prMu and mu held.
	prMu     sync.Mutex // serializes changes, also while they are saved; before mu
	restored bool       // the store has been read; guarded by prMu
	pr       atomic.Pointer[reservations]

	accessCaps atomic.Uint32 // caps of access

	clock   timestamp
	logBase atomic.Pointer[statistics] // the counters at the last LOG SELECT

	// medium is the SANITIZE or FORMAT UNIT that has the medium, nil almost
	// always. It is replaced with mu held, but for a restart of the same.
	medium atomic.Pointer[mediumJob]

	mu       sync.Mutex // guards what follows
	nexuses  map[*Nexus]struct{}
	shard    uint8       // of the next nexus, modulo taskShards
	past     Stats       // of nexuses that were detached
	last     *Unit       // the Unit revoked last
	store    Store       // of the Unit published last
	reserved *ITNexus    // the session with an SPC-2 reservation
	access   *portGroups // nil: no asymmetric access
}

// NewPort returns a port without a unit; it answers BUSY.
func NewPort() *Port {
	p := &Port{nexuses: make(map[*Nexus]struct{})}
	p.pr.Store(noReservations)
	return p
}

// Publish opens the port: commands decoded from now on go to u. The caller has
// revoked the unit before it. A Unit that was revoked cannot be published again.
//
// The first Publish with a Config.Store restores the persistent reservations
// from it. If they cannot be read, all initiators are fenced, which is told to
// Config.Report; see ClearReservations.
func (p *Port) Publish(u *Unit) {
	if err := p.restoreReservations(u.cfg.Store); err != nil && u.cfg.Report != nil {
		u.cfg.Report(&Error{Op: "RESTORE RESERVATIONS", Key: HardwareError, ASC: PersistentReservationLost, Err: err})
	}
	p.unit.Store(u)
	p.resumeJob(u)
}

// Unit returns the published unit, nil if the port is closed.
func (p *Port) Unit() *Unit { return p.unit.Load() }

// SetClosed sets how commands are answered while no unit is published.
func (p *Port) SetClosed(s Closed) { p.closed.Store(uint32(s)) }

// Revoke closes the port: new commands are answered as SetClosed says, queued
// ones with BUSY (their Done may be called on this goroutine). It returns nil
// when no command uses the unit any more. If ctx ends before, it returns
// ErrFenced: the backend may still be written to, so no new incarnation may be
// started over it. Revoke may be called again to wait on.
func (p *Port) Revoke(ctx context.Context) error {
	u := p.unit.Swap(nil)
	p.mu.Lock()
	if u == nil {
		u = p.last
	}
	p.last = u
	p.mu.Unlock()
	if u == nil {
		return nil
	}
	return u.drain(ctx)
}

// Attach makes an I_T_L nexus and establishes POWER ON, RESET, OR BUS DEVICE
// RESET OCCURRED (29h/00h) for it: whatever an initiator port knew of the
// logical unit from an earlier session, it is to look again. It keeps itn.
func (p *Port) Attach(itn *ITNexus) *Nexus {
	n := &Nexus{port: p, itn: itn, id: itn.identity()}
	n.Attention(AttentionPowerOn)
	p.mu.Lock()
	defer p.mu.Unlock()
	n.shard = p.shard % taskShards
	p.shard++
	p.nexuses[n] = struct{}{}
	p.refreshGate(n)
	return n
}

func (p *Port) detach(n *Nexus) {
	n.prevent.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if _, ok := p.nexuses[n]; ok {
		p.keepStatsLocked(n)
	}
	delete(p.nexuses, n)
	n.shut()
	if n.itn != nil {
		p.unreserveLocked(n.itn)
	}
}

// lose is Nexus.Loss.
func (p *Port) lose(n *Nexus) {
	n.prevent.Store(false)
	p.mu.Lock()
	defer p.mu.Unlock()
	if n.itn != nil {
		p.unreserveLocked(n.itn)
	}
	n.Attention(AttentionNexusLoss)
}

// Attention establishes a unit attention condition for every attached nexus
// but except, which may be nil.
func (p *Port) Attention(a Attention, except *Nexus) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := range p.nexuses {
		if n != except {
			n.Attention(a)
		}
	}
}

// ReportsAborts reports whether commands that an action of another I_T nexus aborts
// end with the status TASK ABORTED (TAS, SPC-5 7.5.10), and not without a response.
func (p *Port) ReportsAborts() bool {
	u := p.unit.Load()
	return u != nil && u.taskAborted.Load()
}

// Reset does what a LOGICAL UNIT RESET does to the device server, SAM-6 6.3.3:
// mode parameters go back to their defaults, medium removal is allowed, an
// SPC-2 reservation ends (a persistent one stays), and every nexus gets BUS DEVICE RESET FUNCTION OCCURRED (29h/03h). Aborting the
// commands is the task manager's part, and comes first.
func (p *Port) Reset() {
	if u := p.unit.Load(); u != nil {
		u.resetModes()
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	p.unreserveLocked(nil)
	for n := range p.nexuses {
		n.prevent.Store(false)
		n.Attention(AttentionBusDeviceReset)
	}
}

// removalPrevented reports whether any nexus prevents medium removal.
func (p *Port) removalPrevented() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := range p.nexuses {
		if n.prevent.Load() {
			return true
		}
	}
	return false
}
