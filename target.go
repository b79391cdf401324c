package iserd

import (
	"context"
	"crypto/sha256"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/luns/scsi/aptpl"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/login"
)

// Target is a target of a Server.
type Target struct {
	t *actors.Target
	s *Server
}

// targetOptions collects what the options of AddTarget say.
type targetOptions struct {
	cfg  actors.TargetConfig
	open bool
	luns []actors.LUNConfig
	errs []error
}

// TargetOption changes a target.
type TargetOption func(*targetOptions)

// AddTarget adds a target with an iSCSI name (RFC 7143 §4.2.7). It fails if a
// backend can't be opened; nothing is left of the target then.
func (s *Server) AddTarget(ctx context.Context, name string, opts ...TargetOption) (*Target, error) {
	o, err := collect(name, opts)
	if err != nil {
		return nil, err
	}
	t, err := s.node.AddTarget(ctx, o.cfg)
	if err != nil {
		return nil, fmt.Errorf("iserd: %w", err)
	}
	for _, l := range o.luns {
		if _, err := t.AttachLUN(ctx, s.named(name, l)); err != nil {
			return nil, errors.Join(fmt.Errorf("iserd: %w", err), t.Close(context.WithoutCancel(ctx)))
		}
	}
	return &Target{t, s}, nil
}

// collect applies the options and checks what they amount to.
func collect(name string, opts []TargetOption) (*targetOptions, error) {
	o := &targetOptions{cfg: actors.TargetConfig{Name: name, Session: login.DefaultLimits()}}
	for _, f := range opts {
		f(o)
	}
	a := &o.cfg.Access
	if !o.open && !a.Auth.Required && len(a.Names)+len(a.Addresses)+len(o.cfg.Initiators) == 0 {
		o.errs = append(o.errs, errors.New("nobody may log in: use AnyInitiator, Allow, AllowFrom or CHAP"))
	}
	o.errs = append(o.errs, a.Auth.Validate())
	if err := errors.Join(o.errs...); err != nil {
		return nil, fmt.Errorf("iserd: target %s: %w", name, err)
	}
	return o, nil
}

// Name is the iSCSI name.
func (t *Target) Name() string { return t.t.Name() }

// AttachLUN adds a LUN to a running target. Initiators are told.
func (t *Target) AttachLUN(ctx context.Context, n uint16, b luns.Backend, opts ...LUNOption) error {
	_, err := t.t.AttachLUN(ctx, t.s.named(t.Name(), keep(n, b, opts)))
	return wrap(err)
}

// DetachLUN takes a LUN away and closes its backend. Initiators are told.
func (t *Target) DetachLUN(ctx context.Context, n uint16) error {
	return wrap(t.t.DetachLUN(ctx, n))
}

// Resize takes over the size that the backend of a LUN has now. Initiators are
// told by CAPACITY DATA HAS CHANGED.
func (t *Target) Resize(ctx context.Context, n uint16) error { return wrap(t.t.Resize(ctx, n)) }

// Close ends the sessions of the target, closes its LUNs and removes it.
func (t *Target) Close(ctx context.Context) error { return wrap(t.t.Close(ctx)) }

func wrap(err error) error {
	if err == nil {
		return nil
	}
	return fmt.Errorf("iserd: %w", err)
}

// Alias is the TargetAlias, RFC 7143 §13.7.
func Alias(text string) TargetOption { return func(o *targetOptions) { o.cfg.Alias = text } }

// AnyInitiator opens the target to everybody who reaches a portal.
func AnyInitiator() TargetOption { return func(o *targetOptions) { o.open = true } }

// AsyncEvents has initiators told of changed LUNs and sizes by Asynchronous Messages
// (RFC 7143 §11.9), besides the unit attentions. Linux looks for new LUNs then.
func AsyncEvents() TargetOption { return func(o *targetOptions) { o.cfg.AsyncEvents = true } }

// RedirectTo sends every login to the target elsewhere, once the initiator has
// proved who it is. Sessions that are there go on: ask them to log out and they
// move.
func RedirectTo(r Redirect) TargetOption { return func(o *targetOptions) { o.cfg.Redirect = &r } }

// Access applies access options to the target.
func Access(opts ...AccessOption) TargetOption {
	return func(o *targetOptions) {
		for _, f := range opts {
			f(&o.cfg.Access)
		}
	}
}

// Groups offers the target on these portal groups only.
func Groups(names ...string) TargetOption {
	return func(o *targetOptions) { o.cfg.Groups = append(o.cfg.Groups, names...) }
}

// SessionLimits bounds what is negotiated with initiators.
func SessionLimits(l login.Limits) TargetOption {
	return func(o *targetOptions) { o.cfg.Session = l }
}

// View is what one initiator sees.
type View struct {
	LUNs     map[uint16]uint16 // LUN as seen by the initiator to LUN of the target; nil: all as they are
	ReadOnly []uint16          // LUNs of the target that the initiator may not write to
}

// Initiator admits an initiator with its own view of the LUNs. With one
// Initiator option nobody else is admitted.
func Initiator(name string, v View) TargetOption {
	return func(o *targetOptions) {
		if o.cfg.Initiators == nil {
			o.cfg.Initiators = make(map[string]actors.View)
		}
		o.cfg.Initiators[name] = actors.View(v)
	}
}

// CHAP demands that initiators prove one of the secrets, by user name. Secrets
// have at least 12 bytes (RFC 7143 §9.2.1).
func CHAP(secrets map[string][]byte, algorithms ...chap.Algorithm) AccessOption {
	return func(a *actors.Access) {
		a.Auth.Required = true
		a.Auth.Algorithms = algorithms
		a.Auth.Secret = func(user string) ([]byte, bool) {
			s, ok := secrets[user]
			return s, ok
		}
	}
}

// MutualCHAP has the target prove its own secret to initiators that ask, and
// refuses those that don't.
func MutualCHAP(user string, secret []byte) AccessOption {
	return func(a *actors.Access) {
		a.Auth.MutualUser, a.Auth.MutualSecret, a.Auth.MutualRequired = user, secret, true
	}
}

// LUNOption changes a LUN.
type LUNOption func(*actors.LUNConfig)

// LUN adds a LUN over b, which the server takes and closes in the end. A LUN
// that fails is restarted over the same b.
func LUN(n uint16, b luns.Backend, opts ...LUNOption) TargetOption {
	return func(o *targetOptions) { o.luns = append(o.luns, keep(n, b, opts)) }
}

// LUNFrom is LUN for a backend that is opened anew each time the LUN starts.
func LUNFrom(n uint16, open luns.Opener, opts ...LUNOption) TargetOption {
	return func(o *targetOptions) { o.luns = append(o.luns, lunConfig(n, open, opts)) }
}

// Unit sets everything that SCSI knows of the LUN at once.
func Unit(c scsi.Config) LUNOption { return func(u *actors.LUNConfig) { u.Unit = c } }

// Serial is the unit serial number, VPD page 80h. Without it one is made of the
// names of target and LUN, and stays the same as long as these do.
func Serial(s string) LUNOption { return func(u *actors.LUNConfig) { u.Unit.Serial = s } }

// Thin announces UNMAP; the backend must have it.
func Thin() LUNOption { return func(u *actors.LUNConfig) { u.Unit.Thin = true } }

// ReadOnly refuses all writes.
func ReadOnly() LUNOption { return func(u *actors.LUNConfig) { u.Unit.ReadOnly = true } }

// BlockSize is the logical block length, 512 or 4096 bytes.
func BlockSize(n int) LUNOption { return func(u *actors.LUNConfig) { u.Unit.BlockSize = n } }

// TargetPorts says through which target ports initiators reach the LUN, and in
// which access states they are: asymmetric access (ALUA). A target port is a
// portal group of the target; its relative identifier is the group's tag. What
// is not given here is active/optimized, and unknown to ALL_TG_PT of persistent
// reservations.
func TargetPorts(g scsi.TargetPortGroups) LUNOption {
	return func(u *actors.LUNConfig) { u.Ports = &g }
}

func lunConfig(n uint16, open luns.Opener, opts []LUNOption) actors.LUNConfig {
	c := actors.LUNConfig{Number: n, Open: open}
	c.Unit = scsi.Config{Vendor: "ISERD", Product: "VIRTUAL-DISK", Revision: "0001", WriteCache: true}
	for _, f := range opts {
		f(&c)
	}
	return c
}

// keep makes every incarnation of the LUN run over the same open backend,
// which is closed with the last.
func keep(n uint16, b luns.Backend, opts []LUNOption) actors.LUNConfig {
	c := lunConfig(n, func(context.Context) (luns.Backend, error) { return b, nil }, opts)
	c.Kept = true
	return c
}

// named gives a LUN of target its identity and the store of its reservations,
// where the caller has given none.
func (s *Server) named(target string, c actors.LUNConfig) actors.LUNConfig {
	serial, naa := identity(target, c.Number)
	if c.Unit.Serial == "" {
		c.Unit.Serial = serial
	}
	if c.Unit.NAA == 0 {
		c.Unit.NAA = naa
	}
	if c.Unit.Store == nil && s.stateDir != "" {
		// By what initiators know the unit by: the names of target and LUN may change.
		c.Unit.Store = aptpl.New(filepath.Join(s.stateDir, fmt.Sprintf("reservations-%016x", c.Unit.NAA)))
	}
	return c
}

// identity makes serial number and NAA identifier of names that stay.
func identity(target string, n uint16) (serial string, naa uint64) {
	sum := sha256.Sum256(fmt.Appendf(nil, "%s\x00%d", target, n))
	// Type 3h is locally assigned, SPC-5 7.7.6.6.4.
	return strings.ToUpper(hex.EncodeToString(sum[:8])), 3<<60 | binary.BigEndian.Uint64(sum[8:])>>4
}
