package actors

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
)

// revokeTime is how long a restarting LUN waits for commands that are still in
// its backend. When it is over the LUN stays fenced: two writers on one backing
// store would be worse than none.
const revokeTime = 5 * time.Second

// LUNConfig describes a logical unit of a target.
type LUNConfig struct {
	Number uint16
	Open   luns.Opener
	// Kept says that Open returns the same backend every time: it is closed
	// with the LUN, and not between its incarnations.
	Kept bool
	Unit scsi.Config
	// Ports is how the LUN is accessed through the target ports of its target;
	// nil knows nothing of them.
	Ports *scsi.TargetPortGroups
}

// LUN is a running logical unit.
type LUN struct {
	n      *Node
	t      *Target
	name   string
	number uint16
	cfg    LUNConfig
	port   *scsi.Port
	ref    runtime.Ref
	parked atomic.Bool // taken offline by the operator

	trouble trouble

	// What runs now, or still has to end before something else may run. It is
	// used in the LUN actor's context only, and outlives its incarnations.
	unit    *scsi.Unit
	backend luns.Backend
	mapped  []byte // the backend's memory, announced to RDMA
	gone    bool   // closed for good
}

// AttachLUN opens a backend and makes it a LUN of the target. Initiators that
// are logged in are told by REPORTED LUNS DATA HAS CHANGED.
func (t *Target) AttachLUN(ctx context.Context, cfg LUNConfig) (*LUN, error) {
	l := &LUN{n: t.n, t: t, name: fmt.Sprintf("%s:%d", t.name, cfg.Number), number: cfg.Number, cfg: cfg, port: scsi.NewPort()}
	l.cfg.Unit.Spawn = func(f func()) { t.n.sys.Go("lun-worker", f) }
	l.watch(&l.cfg.Unit)
	if (*t.luns.Load())[cfg.Number] != nil {
		return nil, fmt.Errorf("target %s has a LUN %d already", t.name, cfg.Number)
	}
	ref, err := t.n.spawn(ctx, runtime.Spec{
		Name: "lun-" + l.name, Kind: "lun",
		New:    t.n.actor(func() runtime.Actor { return &lunActor{l: l} }),
		Policy: runtime.Policy{MaxRestarts: t.n.limits.RestartsPerLUN, Window: 30 * time.Second},
	}, func(*runtime.Failure) { l.port.SetClosed(scsi.ClosedFailed) })
	if err != nil {
		return nil, fmt.Errorf("LUN %s: %w", l.name, err)
	}
	l.ref = ref
	if err := l.setTargetPorts(cfg.Ports); err != nil {
		t.n.sys.Stop(ref)
		return nil, errors.Join(fmt.Errorf("LUN %d of %s: %w", cfg.Number, t.name, err), t.n.gone(context.WithoutCancel(ctx), ref))
	}
	l.port.Fault = func(value any, stack []byte) {
		t.n.sys.Send(ref, fault{value: value, stack: string(stack)})
	}
	l.port.AbortTasks = t.abortTasksOf(l.port)
	err, callErr := runtime.Call(ctx, t.n.sys, ref, func(reply func(error)) any { return openLUN{reply} })
	if err = errors.Join(err, callErr); err != nil {
		t.n.sys.Stop(ref)
		_ = t.n.gone(context.WithoutCancel(ctx), ref) // it has nothing to wait for
		return nil, fmt.Errorf("LUN %d of %s: %w", cfg.Number, t.name, err)
	}
	t.changeLUNs(func(m map[uint16]*LUN) { m[cfg.Number] = l })
	return l, nil
}

// DetachLUN takes a LUN away and closes its backend. Initiators see LOGICAL
// UNIT NOT SUPPORTED from now on.
func (t *Target) DetachLUN(ctx context.Context, number uint16) error {
	l, err := t.lun(number)
	if err != nil {
		return err
	}
	l.port.SetClosed(scsi.ClosedGone)
	t.changeLUNs(func(m map[uint16]*LUN) { delete(m, number) })
	err, callErr := runtime.Call(ctx, t.n.sys, l.ref, func(reply func(error)) any { return closeLUN{reply} })
	return errors.Join(err, callErr, t.n.gone(ctx, l.ref))
}

// Resize takes over the size that the backend of a LUN has now.
func (t *Target) Resize(ctx context.Context, number uint16) error { return t.ResizeTo(ctx, number, 0) }

// ResizeTo changes the size of the backend of a LUN to size bytes, which the
// backend must be able to do, and takes it over. 0 leaves the backend as it is.
func (t *Target) ResizeTo(ctx context.Context, number uint16, size int64) error {
	return t.askLUN(ctx, number, func(reply func(error)) any { return resizeLUN{size, reply} })
}

// ParkLUN takes a LUN offline, which closes its backend, or brings it back.
// Initiators see NOT READY, MANUAL INTERVENTION REQUIRED in between.
func (t *Target) ParkLUN(ctx context.Context, number uint16, offline bool) error {
	return t.askLUN(ctx, number, func(reply func(error)) any { return parkLUN{offline, reply} })
}

func (t *Target) askLUN(ctx context.Context, number uint16, build func(reply func(error)) any) error {
	l, err := t.lun(number)
	if err != nil {
		return err
	}
	err, callErr := runtime.Call(ctx, t.n.sys, l.ref, build)
	return errors.Join(err, callErr)
}

// Close ends the sessions of the target, detaches its LUNs and removes it.
func (t *Target) Close(ctx context.Context) error {
	err := t.n.update(func(r *registry) error {
		delete(r.targets, t.name)
		return nil
	})
	_, callErr := runtime.Call(ctx, t.n.sys, t.ref, func(reply func(struct{})) any {
		return endTarget{func() { reply(struct{}{}) }}
	})
	err = errors.Join(err, callErr)
	for number := range *t.luns.Load() {
		err = errors.Join(err, t.DetachLUN(ctx, number))
	}
	t.n.sys.Stop(t.ref)
	return errors.Join(err, t.n.gone(ctx, t.ref))
}

// changeLUNs replaces the LUN table and tells the sessions.
func (t *Target) changeLUNs(change func(map[uint16]*LUN)) {
	t.n.mu.Lock()
	m := maps.Clone(*t.luns.Load())
	change(m)
	t.luns.Store(&m)
	t.n.mu.Unlock()
	t.n.sys.Send(t.ref, lunMapChanged{})
	for _, l := range m {
		l.port.Attention(scsi.AttentionReportedLUNsChanged, nil)
	}
}

// Messages of a LUN.
type (
	openLUN   struct{ reply func(error) }
	closeLUN  struct{ reply func(error) }
	resizeLUN struct {
		size  int64
		reply func(error)
	}
	parkLUN struct {
		offline bool
		reply   func(error)
	}
	fault struct {
		value any
		stack string
	}
)

// lunActor keeps a logical unit alive: it opens the backend, publishes the
// unit behind the data port, and starts over with both when a command has
// panicked in them.
type lunActor struct{ l *LUN }

// Receive implements runtime.Actor.
func (a *lunActor) Receive(ctx runtime.Context, msg any) {
	switch m := msg.(type) {
	case runtime.Started:
		a.started(ctx)
	case openLUN:
		m.reply(a.open(ctx))
	case closeLUN:
		m.reply(a.close(ctx, true))
		ctx.StopSelf()
	case fault:
		// The command has been answered; the fault is the unit's, so it is
		// this actor that fails and its supervisor that acts.
		_ = a.close(ctx, false) // nothing more goes to what has failed
		panic(&backendFault{value: m.value, stack: m.stack})
	case runtime.Restarting:
		ctx.SetBehaviour("restarting")
		_ = a.close(ctx, false)
	case resizeLUN:
		m.reply(a.resize(m.size))
	case parkLUN:
		m.reply(a.park(ctx, m.offline))
	case accessChanged:
		m.log(ctx)
	case commandsFailed:
		a.failed(ctx)
	case thresholdReached:
		m.log(ctx)
	case runtime.Stopping:
		if err := a.close(ctx, true); err != nil {
			ctx.Log().Error("backend did not close", "reason", err)
		}
	}
}

// backendFault is a panic that happened in the work of an actor, on another
// goroutine.
type backendFault struct {
	value any
	stack string
}

// Error names the panic and where it happened.
func (f *backendFault) Error() string { return fmt.Sprintf("%v\n%s", f.value, f.stack) }

func (a *lunActor) started(ctx runtime.Context) {
	if ctx.Generation() == 1 {
		return // AttachLUN asks for the first opening and wants its error
	}
	if a.l.parked.Load() {
		ctx.SetBehaviour("offline")
		return
	}
	if err := a.open(ctx); err != nil {
		ctx.Log().Error("cannot bring the LUN back", "reason", err)
		panic(err)
	}
	a.l.port.Attention(scsi.AttentionDeviceInternalReset, nil)
	ctx.Log().Warn("LUN is back", "generation", ctx.Generation())
}

// open makes a new incarnation. What is left of the old one must be gone.
func (a *lunActor) open(ctx runtime.Context) error {
	l := a.l
	if err := a.close(ctx, false); err != nil {
		return err
	}
	b, err := l.cfg.Open(context.Background())
	if err != nil {
		return err
	}
	u, err := scsi.NewUnit(l.cfg.Unit, b)
	if err != nil {
		return errors.Join(err, b.Close())
	}
	l.unit, l.backend = u, b
	l.trouble.reset()
	l.announce()
	l.port.Publish(u)
	ctx.SetBehaviour("online")
	return nil
}

// announce has RDMA devices know the backend's memory, if it is memory.
func (l *LUN) announce() {
	m, ok := luns.As[luns.Mapper](l.backend)
	if !ok {
		return
	}
	info := l.backend.Info()
	mem := iser.Memory{Bytes: m.Memory(), Whole: !info.Thin}
	if r, ok := luns.As[luns.Releaser](l.backend); ok {
		mem.OnRelease = r.OnRelease
	} else {
		mem.Unsteady = info.Thin
	}
	if x, ok := luns.As[luns.Extenter](l.backend); ok && info.Thin {
		mem.Resident = func(off, n int64) bool { return mapped(x, off, n) }
	}
	l.mapped = mem.Bytes
	l.n.memories.Add(mem)
}

// mapped reports whether all of a range is allocated.
func mapped(x luns.Extenter, off, n int64) bool {
	for e, err := range x.Extents(context.Background(), off, n) {
		if err != nil || e.State != luns.Mapped {
			return false
		}
	}
	return true
}

// close ends the current incarnation: no new commands, wait for those under
// way, flush, close.
func (a *lunActor) close(ctx runtime.Context, final bool) error {
	l := a.l
	if l.unit == nil {
		return a.closeIdle(final)
	}
	wait, cancel := context.WithTimeout(context.Background(), revokeTime)
	defer cancel()
	if err := l.port.Revoke(wait); err != nil {
		ctx.SetBehaviour("fenced")
		return fmt.Errorf("fenced, commands are still in the backend: %w", err)
	}
	l.unit.Close()
	l.n.memories.Remove(l.mapped)
	l.mapped = nil
	b := l.backend
	l.unit, l.backend = nil, nil
	err := b.Flush(wait)
	if errors.Is(err, luns.ErrReadOnly) {
		err = nil
	}
	if !final && l.cfg.Kept {
		return err
	}
	l.gone = final
	return errors.Join(err, b.Close())
}

// closeIdle closes the backend that is kept for the next incarnation, once there
// will be none.
func (a *lunActor) closeIdle(final bool) error {
	if !final || !a.l.cfg.Kept || a.l.gone {
		return nil
	}
	a.l.gone = true
	b, err := a.l.cfg.Open(context.Background())
	if err != nil {
		return err
	}
	return b.Close()
}

// park takes the LUN offline, or brings it back.
func (a *lunActor) park(ctx runtime.Context, offline bool) error {
	l := a.l
	switch {
	case offline == l.parked.Load():
		return nil
	case offline:
		l.port.SetClosed(scsi.ClosedFailed)
		l.parked.Store(true)
		ctx.SetBehaviour("offline")
		return a.close(ctx, false)
	}
	if err := a.open(ctx); err != nil {
		return err
	}
	l.parked.Store(false)
	l.port.SetClosed(scsi.ClosedBusy)
	return nil
}

// resize takes over the size of the backend, after changing it to size if that
// is not 0.
func (a *lunActor) resize(size int64) error {
	if a.l.unit == nil {
		return errors.New("the LUN is not online")
	}
	change := a.refresh
	if size > 0 {
		change = func() error { return a.grow(size) }
	}
	if err := change(); err != nil {
		return err
	}
	changed, err := a.l.unit.Resized()
	if changed {
		a.l.n.memories.Remove(a.l.mapped)
		a.l.announce()
		a.l.port.Attention(scsi.AttentionCapacityChanged, nil)
		a.l.n.sys.Send(a.l.t.ref, scsiEvent{port: a.l.port, what: scsi.AttentionCapacityChanged})
	}
	return err
}

// refresh has the backend look at the size of what it is made of.
func (a *lunActor) refresh() error {
	r, ok := luns.As[luns.Refresher](a.l.backend)
	if !ok {
		return nil // what Info tells is how it is
	}
	old := a.l.unit.Capacity() * uint64(a.l.unit.BlockSize())
	size, err := r.Refresh(context.Background())
	if err == nil && uint64(size) < old {
		return fmt.Errorf("the backend has %d bytes by now, less than the %d that initiators know of: grow it back, or take the LUN away and attach it again", size, old)
	}
	return err
}

// grow changes the size of the backend. It never shrinks: initiators have data
// there.
func (a *lunActor) grow(size int64) error {
	if old := a.l.backend.Info().Size; size < old {
		return fmt.Errorf("the LUN has %d bytes: it cannot shrink to %d", old, size)
	}
	r, ok := luns.As[luns.Resizer](a.l.backend)
	if !ok {
		return errors.New("the backend cannot be resized from here: resize it by its own means, and ask again without a size")
	}
	return r.Resize(context.Background(), size)
}
