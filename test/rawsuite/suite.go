// Package rawsuite misbehaves towards an iSCSI target in every way that raw
// PDUs allow, and checks that the target answers as RFC 7143 says or closes
// the connection, that it forgets nothing, stores nothing wrong, and that other
// sessions notice nothing.
//
// The suite is written against the standard and not against one target: where
// the RFC leaves a choice, every allowed outcome passes. It needs a target
// without authentication whose LUN may be overwritten.
package rawsuite

import (
	"bytes"
	"context"
	"fmt"
	"maps"
	"testing"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
	"github.com/iserd/iserd/test/chopproxy"
)

// Target is what the suite runs against.
type Target struct {
	Addr       string // host:port
	TargetName string
	LUN        uint16 // a disk of 4 MiB or more with 512-byte blocks, to be overwritten

	// Over is the transport; the zero value is TCP.
	Over Transport
	// LoginTimeout is how long the target lets a login take; 0 leaves those
	// tests out, which last as long.
	LoginTimeout time.Duration
	// Memory returns the bytes of memory the target uses; nil leaves those
	// checks out.
	Memory func() int64
	// Skip names tests that are known not to hold, with the reason.
	Skip map[string]string
}

// Transport is how the suite's connections reach the target.
type Transport struct {
	// Dial connects to "host:port"; nil is initiator.Dial. The suite chops,
	// cuts and flips what passes the port by TCP.
	Dial func(ctx context.Context, addr string) (*initiator.Conn, error)
	// ISER says that Dial is iSER (RFC 7145): what a PDU does with data is not
	// on the wire there, and the suite leaves out what only bytes on a stream,
	// R2T and Data-Out PDUs can do.
	ISER bool
	// Keys are offered with the operational keys of normal sessions.
	Keys []text.Pair
	// CRC says that the transport itself notices flipped bits.
	CRC bool
}

// dial connects to addr.
func (x *Transport) dial(ctx context.Context, addr string) (*initiator.Conn, error) {
	if x.Dial == nil {
		return initiator.Dial(ctx, addr)
	}
	return x.Dial(ctx, addr)
}

// tcpOnly skips a test over iSER; why says what shows the same there, or why there
// is nothing to show.
func (s *suite) tcpOnly(t *testing.T, why string) {
	t.Helper()
	if s.Over.ISER {
		t.Skip("only over TCP: " + why)
	}
}

// suite is one run.
type suite struct {
	Target
	bystander *initiator.Session
}

// patience bounds every wait for the target.
const patience = 10 * time.Second

// Run runs the suite against target directly and through a proxy that chops
// the streams into segments of random size.
func Run(t *testing.T, target Target) {
	t.Run("direct", func(t *testing.T) { runAll(t, target) })
	t.Run("chopped", func(t *testing.T) {
		p, err := chopproxy.New(chopproxy.Config{Target: target.Addr, MaxSegment: 61, Seed: 1})
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = p.Close() })
		target.Addr, target.LoginTimeout = p.Addr(), 0
		if target.Over.ISER {
			target.Skip = maps.Clone(target.Skip)
			if target.Skip == nil {
				target.Skip = make(map[string]string)
			}
			target.Skip["Opcodes"] = "as direct: segments of TCP are reassembled below, and the target takes 2 s to end each"
		}
		runAll(t, target)
	})
}

func runAll(t *testing.T, target Target) {
	s := &suite{Target: target}
	s.bystander = s.session(t, nil)
	tests := []struct {
		name string
		f    func(*testing.T)
	}{
		{"Opcodes", s.testOpcodes},
		{"LoginHeaders", s.testLoginHeaders},
		{"LoginText", s.testLoginText},
		{"LoginTimeout", s.testLoginTimeout},
		{"Lengths", s.testLengths},
		{"Digests", s.testDigests},
		{"CmdSN", s.testCmdSN},
		{"DataOut", s.testDataOut},
		{"ImmediateData", s.testImmediateData},
		{"TaskManagement", s.testTaskManagement},
		{"NOP", s.testNOP},
		{"Text", s.testText},
		{"Residuals", s.testResiduals},
		{"Cuts", s.testCuts},
		{"Flips", s.testFlips},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s.skipKnown(t, tt.name)
			tt.f(t)
			s.alive(t)
		})
	}
}

func (s *suite) skipKnown(t *testing.T, name string) {
	t.Helper()
	if reason, ok := s.Skip[name]; ok {
		t.Skip("known: " + reason)
	}
}

// sub runs a subtest whose name may be in Skip as "Test/name".
func (s *suite) sub(t *testing.T, name string, f func(t *testing.T)) {
	t.Helper()
	t.Run(name, func(t *testing.T) {
		s.skipKnown(t, t.Name()[lastButOne(t.Name()):])
		f(t)
	})
}

// lastButOne returns where the last two elements of a test's name begin.
func lastButOne(name string) int {
	slashes := 0
	for i := len(name) - 1; i >= 0; i-- {
		if name[i] == '/' {
			if slashes++; slashes == 2 {
				return i + 1
			}
		}
	}
	return 0
}

func (s *suite) ctx(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), patience)
	t.Cleanup(cancel)
	return ctx
}

func (s *suite) lun() pdu.LUN { return pdu.LUNOf(s.LUN) }

// options of a login.
func (s *suite) options(adjust func(*initiator.Options)) initiator.Options {
	o := initiator.Options{TargetName: s.TargetName}
	if adjust != nil {
		adjust(&o)
	}
	if o.SessionType == initiator.NormalSession {
		o.Extra = append(o.Extra, s.Over.Keys...)
	}
	return o
}

// session logs a well-behaved session in.
func (s *suite) session(t *testing.T, adjust func(*initiator.Options)) *initiator.Session {
	t.Helper()
	o := s.options(adjust)
	c, err := s.Over.dial(s.ctx(t), s.Addr)
	if err != nil {
		t.Fatal(err)
	}
	x, err := initiator.Login(s.ctx(t), c, o)
	if err != nil {
		t.Fatal("login:", err)
	}
	t.Cleanup(func() { _ = x.Close() })
	if o.SessionType == initiator.DiscoverySession {
		return x
	}
	for range 4 { // unit attentions of the new nexus
		if r, err := x.Exec(s.ctx(t), s.lun(), make([]byte, 6), nil, 0); err == nil && r.Status == 0 {
			return x
		}
	}
	t.Fatal("unit does not get ready")
	return nil
}

// alive checks that the bystander's session works, data included, and that a
// new session can be had.
func (s *suite) alive(t *testing.T) {
	t.Helper()
	if _, err := s.bystander.NOP(s.ctx(t), []byte("alive?")); err != nil {
		t.Fatal("bystander:", err)
	}
	if err := s.writeRead(t, s.bystander, bystanderLBA, pattern("bystander", t.Name(), 4096)); err != nil {
		t.Fatal("bystander:", err)
	}
	if err := s.session(t, nil).Logout(s.ctx(t)); err != nil {
		t.Fatal("new session:", err)
	}
}

// Where tests write, in blocks: apart from each other.
const (
	bystanderLBA = 0
	scratchLBA   = 64
	cutLBA       = 1024
)

const blockSize = 512

const (
	opRead10  = 0x28
	opWrite10 = 0x2a
)

func cdb10(op byte, lba, blocks int) []byte {
	return []byte{op, 0, byte(lba >> 24), byte(lba >> 16), byte(lba >> 8), byte(lba), 0, byte(blocks >> 8), byte(blocks), 0}
}

// pattern returns n bytes that depend on the words.
func pattern(a, b string, n int) []byte {
	unit := fmt.Appendf(nil, "%s|%s|", a, b)
	return bytes.Repeat(unit, n/len(unit)+1)[:n]
}

func (s *suite) write(t *testing.T, x *initiator.Session, lba int, data []byte) error {
	t.Helper()
	r, err := x.Exec(s.ctx(t), s.lun(), cdb10(opWrite10, lba, len(data)/blockSize), data, 0)
	if err == nil {
		err = r.Err()
	}
	return err
}

func (s *suite) read(t *testing.T, x *initiator.Session, lba, n int) ([]byte, error) {
	t.Helper()
	r, err := x.Exec(s.ctx(t), s.lun(), cdb10(opRead10, lba, n/blockSize), nil, n)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return nil, err
	}
	return r.Data, nil
}

func (s *suite) writeRead(t *testing.T, x *initiator.Session, lba int, data []byte) error {
	t.Helper()
	if err := s.write(t, x, lba, data); err != nil {
		return fmt.Errorf("write: %w", err)
	}
	got, err := s.read(t, x, lba, len(data))
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(got, data) {
		return fmt.Errorf("read gives other data than was written")
	}
	return nil
}

// mustHold checks, through the bystander, that the blocks from lba on hold
// want.
func (s *suite) mustHold(t *testing.T, lba int, want []byte) {
	t.Helper()
	got, err := s.read(t, s.bystander, lba, len(want))
	if err != nil {
		t.Fatal("bystander:", err)
	}
	if !bytes.Equal(got, want) {
		t.Errorf("blocks from %d on hold %.40q, want %.40q", lba, got, want)
	}
}
