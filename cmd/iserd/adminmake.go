package main

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

// Targets that are made through the API are configuration like that in files:
// they are written as HCL, loaded and checked with it, and applied by the same
// code. They are gone after a restart.

// EnsureTarget implements api.Daemon.
func (a *admin) EnsureTarget(ctx context.Context, name string, spec *api.TargetSpec) (made bool, err error) {
	want, err := fragment(name, spec)
	if err != nil {
		return false, err
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	old := a.made[name]
	switch {
	case old != nil && same(old, want):
		return false, nil
	case old != nil:
		return false, api.Problemf(api.ErrConflict, "target %s exists with another specification", name)
	case targetOf(a.running, name) != nil:
		return false, api.Problemf(api.ErrConflict, "target %s is in the configuration files", name)
	}
	return true, a.putLocked(ctx, name, want)
}

// same reports whether two specifications ask for the same.
func same(a, b *config.Config) bool { return bytes.Equal(config.PrintGiven(a), config.PrintGiven(b)) }

// putLocked puts another specification, nil for none, into force for a target.
// a.mu is held.
func (a *admin) putLocked(ctx context.Context, name string, spec *config.Config) error {
	made := maps.Clone(a.made)
	if made == nil {
		made = make(map[string]*config.Config)
	}
	made[name] = spec
	if spec == nil {
		delete(made, name)
	}
	_, _, err := a.becomeLocked(ctx, a.host, made)
	return kindOf(err)
}

// DeleteTarget implements api.Daemon.
func (a *admin) DeleteTarget(ctx context.Context, name string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.isMadeLocked(name); err != nil {
		return err
	}
	return a.putLocked(ctx, name, nil)
}

// isMadeLocked returns an error unless the target was made through the API.
// a.mu is held.
func (a *admin) isMadeLocked(name string) error {
	switch {
	case a.made[name] != nil:
		return nil
	case targetOf(a.running, name) != nil:
		return api.Problemf(api.ErrConflict, "target %s is in the configuration files: change them (%s) and reload", name, placeOf(targetOf(a.running, name)))
	default:
		return api.Problemf(api.ErrNotFound, "there is no target %s", name)
	}
}

// placeOf is where a target is configured.
func placeOf(t *config.Target) string {
	at := t.Header()
	return fmt.Sprintf("%s:%d", at.Filename, at.Start.Line)
}

// EnsureLUN implements api.Daemon.
func (a *admin) EnsureLUN(ctx context.Context, target string, spec *api.LUNSpec) (made bool, err error) {
	if err := checkBackend(&spec.Backend); err != nil {
		return false, err
	}
	want := fragmentLUN(target, spec)
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.isMadeLocked(target); err != nil {
		return false, err
	}
	old := a.made[target]
	if lunOf(&old.Targets[0], spec.Number) != nil {
		if !same(onlyLUN(old, spec.Number), onlyLUN(want, spec.Number)) {
			return false, api.Problemf(api.ErrConflict, "target %s has a LUN %d with another specification", target, spec.Number)
		}
		return false, nil
	}
	c := copyOf(old)
	c.Targets[0].LUNs = append(c.Targets[0].LUNs, want.Targets[0].LUNs...)
	c.Backends = append(c.Backends, want.Backends...)
	return true, a.putLocked(ctx, target, c)
}

// copyOf is a copy of a specification whose LUNs and backends can be changed.
func copyOf(c *config.Config) *config.Config {
	t := c.Targets[0]
	t.LUNs = slices.Clone(t.LUNs)
	out := &config.Config{Targets: []config.Target{t}, Backends: slices.Clone(c.Backends)}
	for i := range out.Backends {
		if b := &out.Backends[i]; b.File != nil {
			f := *b.File
			b.File = &f
		} else if b.Memory != nil {
			m := *b.Memory
			b.Memory = &m
		}
	}
	return out
}

// onlyLUN is one LUN of a specification with its backend, and nothing else.
func onlyLUN(c *config.Config, n uint16) *config.Config {
	l := *lunOf(&c.Targets[0], n)
	return &config.Config{Targets: []config.Target{{Name: "t", LUNs: []config.LUN{l}}}, Backends: []config.Backend{*c.Backend(l.Backend)}}
}

// DeleteLUN implements api.Daemon.
func (a *admin) DeleteLUN(ctx context.Context, target string, lun uint16) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.isMadeLocked(target); err != nil {
		return err
	}
	c := copyOf(a.made[target])
	t := &c.Targets[0]
	for i := range t.LUNs {
		if t.LUNs[i].Number != lun {
			continue
		}
		ref := t.LUNs[i].Backend
		t.LUNs = append(t.LUNs[:i], t.LUNs[i+1:]...)
		for j := range c.Backends {
			if c.Backends[j].Ref() == ref {
				c.Backends = append(c.Backends[:j], c.Backends[j+1:]...)
				break
			}
		}
		return a.putLocked(ctx, target, c)
	}
	return api.Problemf(api.ErrNotFound, "target %s has no LUN %d", target, lun)
}

// ResizeLUN implements api.Daemon. With a size it is for LUNs that were made
// through the API: the size of others is in a file.
func (a *admin) ResizeLUN(ctx context.Context, target string, lun uint16, size string) error {
	if size == "" {
		if err := a.freeSize(target, lun); err != nil {
			return err
		}
		return a.onTarget(target, func(t *iserd.Target) error { return t.Resize(ctx, lun) })
	}
	n, err := config.ParseSize(size)
	if err != nil {
		return api.Problemf(api.ErrInvalid, "size %q: %v", size, err)
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if err := a.isMadeLocked(target); err != nil {
		return err
	}
	c := copyOf(a.made[target])
	l := lunOf(&c.Targets[0], lun)
	if l == nil {
		return api.Problemf(api.ErrNotFound, "target %s has no LUN %d", target, lun)
	}
	b := c.Backend(l.Backend)
	switch {
	case n < b.Size():
		return api.Problemf(api.ErrConflict, "LUN %d of %s has %s: it cannot shrink", lun, target, config.FormatSize(b.Size()))
	case b.File != nil:
		b.File.Size = n
	case b.Memory != nil:
		b.Memory.Size = n
	default:
		return api.Problemf(api.ErrConflict, "the size of a %s backend is changed by its own means; resize without a size then", b.Kind)
	}
	return a.putLocked(ctx, target, c)
}

// freeSize refuses to take over the size of a store whose configured size is
// exact: the daemon would not start with another one.
func (a *admin) freeSize(target string, lun uint16) error {
	c, _, made := a.inForce()
	l := lunOf(targetOf(c, target), lun)
	if l == nil {
		return nil // the server has its own error for that
	}
	b := c.Backend(l.Backend)
	if b == nil || b.File == nil || b.File.Size == 0 || b.File.Create {
		return nil
	}
	if made[target] != nil {
		return api.Problemf(api.ErrConflict, "%s was attached with a size of %s: say which it has now, iserd lun resize --size", b.File.Path, config.FormatSize(b.File.Size))
	}
	at := b.File.At("size")
	return api.Problemf(api.ErrConflict, "%s is to have %s, by %s:%d: change it there and reload, or leave it out", b.Ref(), config.FormatSize(b.File.Size), at.Filename, at.Start.Line)
}

// fragment makes a configuration of a specification, without what is left to the
// defaults.
func fragment(name string, spec *api.TargetSpec) (*config.Config, error) {
	c := &config.Config{}
	t := config.Target{Name: name, Alias: spec.Alias, Auth: spec.Auth, Insecure: spec.Insecure, PortalGroups: spec.Groups, ALUA: aluaOfSpec(spec.ALUA)}
	for _, i := range spec.Initiators {
		t.Initiators = append(t.Initiators, initiatorOf(i))
	}
	for k := range spec.LUNs {
		l := &spec.LUNs[k]
		if err := checkBackend(&l.Backend); err != nil {
			return nil, err
		}
		one := fragmentLUN(name, l)
		t.LUNs = append(t.LUNs, one.Targets[0].LUNs...)
		c.Backends = append(c.Backends, one.Backends...)
	}
	c.Targets = []config.Target{t}
	return c, nil
}

func aluaOfSpec(a *api.ALUASpec) *config.ALUA {
	if a == nil {
		return nil
	}
	out := &config.ALUA{Explicit: a.Explicit}
	for _, g := range a.Groups {
		out.Groups = append(out.Groups, config.ALUAGroup{PortalGroup: g.PortalGroup, State: g.State, Preferred: g.Preferred})
	}
	return out
}

func initiatorOf(i api.InitiatorSpec) config.Initiator {
	return config.Initiator{Name: i.Name, LUNs: i.LUNs, ReadOnly: i.ReadOnly}
}

func checkBackend(b *api.BackendSpec) error {
	if _, err := sizeOf(b.Size); err != nil {
		return api.Problemf(api.ErrInvalid, "size %q: %v", b.Size, err)
	}
	switch config.BackendKind(b.Kind) {
	case config.BackendFile, config.BackendBlock, config.BackendMemory, config.BackendNull:
		return nil
	}
	return api.Problemf(api.ErrInvalid, "kind %q: it is file, block, memory or null", b.Kind)
}

func sizeOf(text string) (int64, error) {
	if text == "" {
		return 0, nil
	}
	return config.ParseSize(text)
}

// fragmentLUN is a configuration with one LUN and its backend, which
// checkBackend has accepted.
func fragmentLUN(target string, l *api.LUNSpec) *config.Config {
	sum := sha256.Sum256([]byte(target))
	b := config.Backend{Kind: config.BackendKind(l.Backend.Kind), Name: "api-" + hex.EncodeToString(sum[:6]) + "-" + number(l.Number)}
	size, _ := sizeOf(l.Backend.Size)
	switch s := &l.Backend; b.Kind {
	case config.BackendFile:
		b.File = &config.FileBackend{Path: s.Path, Size: size, Create: s.Create, DirectIO: s.DirectIO, ReadOnly: s.ReadOnly}
	case config.BackendBlock:
		b.Block = &config.BlockBackend{Path: s.Path, DirectIO: s.DirectIO, ReadOnly: s.ReadOnly}
	case config.BackendMemory:
		b.Memory = &config.MemoryBackend{Size: size}
	case config.BackendNull:
		b.Null = &config.NullBackend{Size: size}
	}
	return &config.Config{Backends: []config.Backend{b}, Targets: []config.Target{{Name: target, LUNs: []config.LUN{{
		Label: number(l.Number), Number: l.Number, Backend: b.Ref(), BlockSize: l.BlockSize, Serial: l.Serial, NAA: l.NAA,
		Thin: l.Thin, ReadOnly: l.ReadOnly, ALUA: aluaOfSpec(l.ALUA),
	}}}}}
}
