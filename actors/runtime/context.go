package runtime

import (
	"time"

	"github.com/asynkron/protoactor-go/actor"
	"github.com/hashicorp/go-hclog"
)

func (c *cell) Self() Ref { return Ref{c} }

func (c *cell) Parent() Ref { return Ref{c.parent} }

func (c *cell) Path() string { return c.path }

func (c *cell) Generation() uint64 { return c.gen.Load() }

func (c *cell) System() *System { return c.sys }

func (c *cell) Log() hclog.Logger {
	c.logOnce.Do(func() { c.log = c.sys.log.Named(c.kind()).With("actor", c.path) })
	return c.log
}

func (c *cell) Spawn(spec Spec) (Ref, error) {
	// A child of an actor that is stopping would be stopped by nobody, and the
	// parent would wait for it for ever.
	if !c.takes() {
		return Ref{}, ErrStopped
	}
	kid, err := c.sys.newCell(c, spec)
	if err != nil {
		return Ref{}, err
	}
	if _, err := c.pc.SpawnNamed(kid.props(), kid.id); err != nil {
		c.sys.remove(kid)
		return Ref{}, err
	}
	if c.kids == nil {
		c.kids = make(map[string]*cell)
	}
	c.kids[kid.pid.Id] = kid
	return Ref{kid}, nil
}

func (c *cell) Children() []Ref {
	refs := make([]Ref, 0, len(c.kids))
	for _, kid := range c.kids {
		refs = append(refs, Ref{kid})
	}
	return refs
}

func (c *cell) Send(ref Ref, msg any) bool { return c.sys.Send(ref, msg) }

func (c *cell) Stop(ref Ref) { c.sys.Stop(ref) }

func (c *cell) StopSelf() { c.mb.postSystem(stopMessage) }

func (c *cell) Watch(ref Ref) {
	w := ref.c
	if w == nil || w == c || w.parent == c {
		return // the parent is told anyway
	}
	if _, ok := c.watching[w.pid.Id]; ok {
		return
	}
	if c.watching == nil {
		c.watching = make(map[string]*cell)
	}
	c.watching[w.pid.Id] = w
	if !w.mb.postSystem(watch{c}) {
		c.mb.postSystem(&actor.Terminated{Who: w.pid})
	}
}

func (c *cell) Unwatch(ref Ref) {
	w := ref.c
	if w == nil || c.watching[w.pid.Id] == nil {
		return
	}
	delete(c.watching, w.pid.Id)
	w.mb.postSystem(unwatch{c})
}

// unwatchAll ends the watches of an incarnation.
func (c *cell) unwatchAll() {
	for _, w := range c.watching {
		w.mb.postSystem(unwatch{c})
	}
	clear(c.watching)
}

func (c *cell) SetBehaviour(name string) { c.behaviour.Store(&name) }

func (c *cell) After(d time.Duration, msg any) func() {
	if msg == nil {
		return func() {}
	}
	t := &timer{c: c, gen: c.gen.Load(), msg: msg}
	c.arm(t, d)
	return t.cancel
}
