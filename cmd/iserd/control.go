package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/config"
)

// control changes a running daemon from one configuration to another. One
// change is made at a time.
type control struct {
	d      *daemon
	log    hclog.Logger
	levels *logLevels
	out    *outlet

	listeners *listeners // of the API
	load      func(extra []config.Option) (*config.Config, config.Diagnostics)

	mu      sync.Mutex
	host    *snapshot                 // what the files were when they were read last
	running *config.Config            // what is in force; never changed, only replaced
	made    map[string]*config.Config // targets made through the API, without defaults
	last    reloadResult
	pending []string // arguments that wait for a restart of the daemon
}

// reloadResult is how the last change went.
type reloadResult struct {
	at      time.Time
	err     error
	changes int
}

// errInvalid wraps the diagnostics of a configuration that cannot be loaded.
type errInvalid struct{ config.Diagnostics }

// desired loads the configuration that the files, as host tells them, and the
// API ask for. c.mu is held.
func (c *control) desired(host *snapshot, made map[string]*config.Config) (*config.Config, config.Diagnostics) {
	opts := []config.Option{config.WithHost(host)}
	for name, spec := range made {
		opts = append(opts, config.WithSource("api:"+name, config.PrintGiven(spec)))
	}
	return c.load(opts)
}

// plan returns what a reload would do.
func (c *control) plan() ([]config.Change, config.Diagnostics, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	next, diags := c.desired(newSnapshot(config.OS()), c.made)
	if next == nil {
		return nil, diags, &errInvalid{diags}
	}
	return config.Diff(c.running, next), diags, nil
}

// reload reads the files again and applies what has changed, all or nothing.
func (c *control) reload(ctx context.Context) ([]config.Change, config.Diagnostics, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	changes, diags, err := c.becomeLocked(ctx, newSnapshot(config.OS()), c.made)
	c.last = reloadResult{at: time.Now(), err: err, changes: len(changes)}
	if err := c.out.reopen(); err != nil {
		c.log.Error("the log file cannot be opened anew: the old one is written on", "reason", err)
	}
	if err != nil {
		c.log.Error("the new configuration is refused: the old one stays in force", "reason", err)
	}
	return changes, diags, err
}

// becomeLocked loads the files, as host tells them, and made, and applies the
// result. c.mu is held.
func (c *control) becomeLocked(ctx context.Context, host *snapshot, made map[string]*config.Config) ([]config.Change, config.Diagnostics, error) {
	next, diags := c.desired(host, made)
	if next == nil {
		return nil, diags, &errInvalid{diags}
	}
	changes, err := c.applyLocked(ctx, next)
	if err != nil {
		return changes, diags, err
	}
	host.seal()
	c.host, c.made = host, made
	c.log.Info("configuration applied", "changes", len(changes))
	for i := range changes {
		c.log.Info("configuration changed", "what", changes[i].Action.String(), "object", changes[i].Object())
	}
	return changes, diags, nil
}

// applyLocked does what leads to next, or puts back what it has done. c.mu is
// held.
func (c *control) applyLocked(ctx context.Context, next *config.Config) ([]config.Change, error) {
	changes := config.Diff(c.running, next)
	t := &transition{control: c, ctx: ctx, old: c.running, next: next}
	t.gives = slices.ContainsFunc(changes, func(x config.Change) bool {
		return x.Action == config.RemoveTarget || x.Action == config.RemoveLUN || x.Action == config.ReplaceLUN
	})
	for i := range changes {
		if err := t.step(&changes[i]); err != nil {
			t.rollback()
			return changes, fmt.Errorf("%s: %w", changes[i].Object(), err)
		}
	}
	if err := t.addLate(); err != nil {
		t.rollback()
		return changes, err
	}
	if err := t.targetPorts(); err != nil {
		t.rollback()
		return changes, err
	}
	for _, f := range t.settle {
		f()
	}
	c.running, c.pending = inForce(c.running, next), nil
	for i := range changes {
		if changes[i].Action == config.Restart {
			for _, d := range changes[i].Details {
				c.pending = append(c.pending, d.Name)
			}
		}
	}
	c.d.stores.keep(c.running)
	return changes, nil
}

// inForce is next with what needs a restart as it was.
func inForce(old, next *config.Config) *config.Config {
	c := *next
	c.Node = old.Node
	c.Limits.BufferMemory, c.Limits.CommandsPerSession = old.Limits.BufferMemory, old.Limits.CommandsPerSession
	c.Console.FaultInjection = old.Console.FaultInjection
	return &c
}

// transition is one change of configuration under way.
type transition struct {
	*control
	ctx       context.Context
	old, next *config.Config
	gives     bool // something is given up whose store may be wanted elsewhere
	later     []*config.Change
	undo      []func() error
	settle    []func()
}

// undoing notes how a step is taken back.
func (t *transition) undoing(f func() error) { t.undo = append(t.undo, f) }

// rollback takes back all steps, the last first.
func (t *transition) rollback() {
	for _, f := range slices.Backward(t.undo) {
		if err := f(); err != nil {
			t.log.Error("cannot put back what the failed change had done", "reason", err)
		}
	}
	t.d.stores.keep(t.old)
}

func (t *transition) step(c *config.Change) error {
	switch c.Action {
	case config.AddTarget, config.AddLUN:
		err := t.add(c)
		var e *exitError
		if t.gives && errors.As(err, &e) && e.code == exitBusy {
			// Its store is in use by what is about to go.
			t.later = append(t.later, c)
			return nil
		}
		return err
	case config.ChangeTarget:
		return t.changeTarget(c)
	case config.ChangeDiscovery:
		return t.changeDiscovery(c)
	case config.ReplaceLUN:
		return t.swap(func() error { return t.detach(t.ctx, c) }, func() error { return t.attach(t.ctx, t.next, c) },
			func(ctx context.Context) error { return t.detach(ctx, c) }, func(ctx context.Context) error { return t.attach(ctx, t.old, c) })
	case config.RemoveLUN:
		return t.remove(c, func() error { return t.detach(t.ctx, c) }, func(ctx context.Context) error { return t.attach(ctx, t.old, c) })
	case config.RemoveTarget:
		return t.remove(c, func() error { return t.closeTarget(t.ctx, c) }, func(ctx context.Context) error { return t.addTarget(ctx, t.old, c) })
	case config.RemovePortal:
		return t.remove(c, func() error { return t.closePortal(c) }, func(ctx context.Context) error { return t.openPortal(ctx, t.old, c) })
	case config.AddPortal:
		if err := t.addLate(); err != nil {
			return err
		}
		if err := t.openPortal(t.ctx, t.next, c); err != nil {
			return err
		}
		t.undoing(func() error { return t.closePortal(c) })
		return nil
	case config.ResizeLUN:
		if err := t.addLate(); err != nil {
			return err
		}
		return t.resize(c)
	case config.ChangeLog:
		return t.changeLog()
	case config.ChangeConsole:
		if err := t.listeners.change(withConsole(t.old), withConsole(t.next)); err != nil {
			return err
		}
		t.undoing(func() error { return t.listeners.change(withConsole(t.next), withConsole(t.old)) })
		return nil
	case config.ChangeLimits:
		t.d.server.SetLimits(serverLimits(t.next.Limits))
		t.undoing(func() error { t.d.server.SetLimits(serverLimits(t.old.Limits)); return nil })
		return nil
	default:
		return nil
	}
}

// addLate adds what had to wait until other things were gone.
func (t *transition) addLate() error {
	for len(t.later) > 0 {
		c := t.later[0]
		t.later = t.later[1:]
		if err := t.add(c); err != nil {
			return fmt.Errorf("%s: %w", c.Object(), err)
		}
	}
	return nil
}

// patient is the context of undoing: it goes on when the change was called off.
func (t *transition) patient() (context.Context, context.CancelFunc) {
	return context.WithTimeout(context.WithoutCancel(t.ctx), 30*time.Second)
}

func (t *transition) add(c *config.Change) error {
	if c.Action == config.AddTarget {
		if err := t.addTarget(t.ctx, t.next, c); err != nil {
			return err
		}
		t.undoing(func() error {
			ctx, cancel := t.patient()
			defer cancel()
			return t.closeTarget(ctx, c)
		})
		return nil
	}
	if err := t.attach(t.ctx, t.next, c); err != nil {
		return err
	}
	t.undoing(func() error {
		ctx, cancel := t.patient()
		defer cancel()
		return t.detach(ctx, c)
	})
	return nil
}

// remove does a step that is undone by putting back.
func (t *transition) remove(_ *config.Change, do func() error, back func(context.Context) error) error {
	t.undoing(func() error {
		ctx, cancel := t.patient()
		defer cancel()
		return back(ctx)
	})
	return do()
}

// swap does two steps of which each is undone by itself.
func (t *transition) swap(out, in func() error, undoIn, undoOut func(context.Context) error) error {
	if err := t.remove(nil, out, undoOut); err != nil {
		return err
	}
	if err := in(); err != nil {
		return err
	}
	t.undoing(func() error {
		ctx, cancel := t.patient()
		defer cancel()
		return undoIn(ctx)
	})
	return nil
}

func (t *transition) addTarget(ctx context.Context, from *config.Config, c *config.Change) error {
	opts, err := targetOptions(from, targetOf(from, c.Target), t.d.stores, t.log)
	if err != nil {
		return err
	}
	_, err = t.d.server.AddTarget(ctx, c.Target, opts...)
	return storeError(err)
}

func (t *transition) closeTarget(ctx context.Context, c *config.Change) error {
	tg, err := t.target(c)
	if err != nil {
		return err
	}
	return tg.Close(ctx)
}

func (t *transition) attach(ctx context.Context, from *config.Config, c *config.Change) error {
	tg, err := t.target(c)
	if err != nil {
		return err
	}
	of := targetOf(from, c.Target)
	open, opts, err := lunParts(from, of, lunOf(of, c.LUN), t.d.stores, t.log)
	if err != nil {
		return err
	}
	return storeError(tg.AttachLUNFrom(ctx, c.LUN, open, opts...))
}

func (t *transition) detach(ctx context.Context, c *config.Change) error {
	tg, err := t.target(c)
	if err != nil {
		return err
	}
	return tg.DetachLUN(ctx, c.LUN)
}

func (t *transition) changeTarget(c *config.Change) error {
	tg, err := t.target(c)
	if err != nil {
		return err
	}
	opts, err := accessOfTarget(t.next, targetOf(t.next, c.Target))
	if err != nil {
		return err
	}
	r, err := tg.Replace(opts...)
	if err != nil {
		return err
	}
	t.undoing(func() error { r.Undo(); return nil })
	t.settle = append(t.settle, r.Settle)
	return nil
}

func (t *transition) changeDiscovery(c *config.Change) error {
	g := t.next.PortalGroup(c.Group)
	access, err := accessOptions(t.next.Auth(g.DiscoveryAuth))
	if err != nil {
		return err
	}
	undo, err := t.d.server.SetDiscovery(c.Group, access...)
	if errors.Is(err, iserd.ErrNotFound) {
		return nil // its portals are opened in this change
	}
	if err == nil {
		t.undoing(func() error { undo(); return nil })
	}
	return err
}

func (t *transition) changeLog() error {
	was, now := &t.old.Log, &t.next.Log
	if was.Output != now.Output || was.Format != now.Format {
		settle, undo, err := t.out.replace(*now)
		if err != nil {
			return err
		}
		t.settle = append(t.settle, settle)
		t.undoing(func() error { undo(); return nil })
	}
	t.levels.set(now.Level, now.Levels)
	t.undoing(func() error { t.levels.set(was.Level, was.Levels); return nil })
	return nil
}

// resize comes last of what can fail: it is not taken back.
func (t *transition) resize(c *config.Change) error {
	tg, err := t.target(c)
	if err != nil {
		return err
	}
	b := t.next.Backend(lunOf(targetOf(t.next, c.Target), c.LUN).Backend)
	if err := tg.ResizeTo(t.ctx, c.LUN, b.Size()); err != nil {
		return err
	}
	t.d.stores.renamed(b)
	return nil
}

func (t *transition) openPortal(ctx context.Context, from *config.Config, c *config.Change) error {
	g := from.PortalGroup(c.Group)
	for i := range g.Portals {
		if g.Portals[i].AddrPort == c.Portal {
			return t.d.openPortal(ctx, from, g, &g.Portals[i])
		}
	}
	return fmt.Errorf("no portal %v", c.Portal)
}

func (t *transition) closePortal(c *config.Change) error {
	t.d.closePortal(c.Portal)
	t.d.server.ForgetGroup(c.Group)
	return nil
}

func (t *transition) target(c *config.Change) (*iserd.Target, error) {
	tg := t.d.server.Target(c.Target)
	if tg == nil {
		return nil, fmt.Errorf("target %s: %w", c.Target, iserd.ErrNotFound)
	}
	return tg, nil
}

func targetOf(c *config.Config, name string) *config.Target {
	for i := range c.Targets {
		if c.Targets[i].Name == name {
			return &c.Targets[i]
		}
	}
	return nil
}

func lunOf(t *config.Target, n uint16) *config.LUN {
	if t == nil {
		return nil
	}
	for i := range t.LUNs {
		if t.LUNs[i].Number == n {
			return &t.LUNs[i]
		}
	}
	return nil
}

// closePortal stops listening on a configured address.
func (d *daemon) closePortal(at netip.AddrPort) {
	d.mu.Lock()
	stop := d.stops[at]
	delete(d.stops, at)
	d.mu.Unlock()
	if stop != nil {
		stop()
	}
}
