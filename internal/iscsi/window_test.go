package iscsi_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// TestWindowModel walks every reachable state of a small window (RFC 7143
// §4.2.2.1) breadth first: an initiator may send any CmdSN around the window,
// retries and out of order included, and the target may answer any command.
// Across the wrap of the 32-bit numbers as well: no command runs twice or out
// of order, none outside of the window is taken, the window never shrinks, and
// never more than depth commands run.
func TestWindowModel(t *testing.T) {
	const depth, horizon = 4, 8
	for _, first := range []uint32{0, 1, 0xfffffffe, 0x7ffffffe} {
		t.Run(fmt.Sprintf("%#x", first), func(t *testing.T) {
			type state struct {
				w    *iscsi.Window
				runs uint32 // commands that ran so far
			}
			key := func(s state) string {
				h := s.w.Held()
				slices.Sort(h)
				return fmt.Sprint(s.w.Exp()-first, s.w.Active(), h)
			}
			start := state{w: iscsi.NewWindow(first, depth)}
			seen := map[string]bool{key(start): true}
			queue := []state{start}
			for len(queue) > 0 {
				s := queue[0]
				queue = queue[1:]
				var next []state
				for off := -2; off < depth+3; off++ {
					n := state{w: s.w.Clone(), runs: s.runs}
					sn := s.w.Exp() + uint32(off)
					inside := off >= 0 && !pdu.SNLess(s.w.Max(), sn)
					ran := n.w.Take(sn)
					if !inside && (len(ran) > 0 || len(n.w.Held()) != len(s.w.Held())) {
						t.Fatalf("state %s: CmdSN %#x is outside of %#x..%#x and was taken", key(s), sn, s.w.Exp(), s.w.Max())
					}
					for i, r := range ran {
						if r != first+s.runs+uint32(i) {
							t.Fatalf("state %s: CmdSN %#x runs, want %#x", key(s), r, first+s.runs+uint32(i))
						}
					}
					if off == 0 && inside && len(ran) == 0 {
						t.Fatalf("state %s: the expected command did not run", key(s))
					}
					n.runs += uint32(len(ran))
					next = append(next, n)
				}
				if s.w.Active() > 0 {
					n := state{w: s.w.Clone(), runs: s.runs}
					n.w.Answer()
					next = append(next, n)
				}
				for _, n := range next {
					if pdu.SNLess(n.w.Max(), s.w.Max()) {
						t.Fatalf("state %s: MaxCmdSN shrinks from %#x to %#x", key(s), s.w.Max(), n.w.Max())
					}
					if n.w.Active() > depth || len(n.w.Held()) > depth {
						t.Fatalf("state %s: %d run, %d held, depth %d", key(s), n.w.Active(), len(n.w.Held()), depth)
					}
					if n.runs <= horizon && !seen[key(n)] {
						seen[key(n)] = true
						queue = append(queue, n)
					}
				}
			}
			if len(seen) < 50 {
				t.Errorf("only %d states", len(seen))
			}
		})
	}
}

// TestCmdSN is the window as an initiator sees it.
func TestCmdSN(t *testing.T) {
	tur := make([]byte, 6)
	for _, first := range []uint32{1, 0xffffffff, 0x7fffffff} {
		t.Run(fmt.Sprintf("%#x", first), func(t *testing.T) {
			t.Run("in order", func(t *testing.T) {
				r := newRig(t, options{mapped: true, cmdSN: first})
				for range 5 {
					p := r.good(r.command(command{cdb: tur}))
					if p.ExpCmdSN != r.cmdSN || p.MaxCmdSN != r.cmdSN+7 {
						t.Fatalf("ExpCmdSN %#x, MaxCmdSN %#x after %#x", p.ExpCmdSN, p.MaxCmdSN, r.cmdSN-1)
					}
				}
			})
			t.Run("gap", func(t *testing.T) {
				r := newRig(t, options{mapped: true, cmdSN: first})
				sn := r.cmdSN
				third := r.command(command{cdb: tur, cmdSN: new(sn + 2)})
				second := r.command(command{cdb: tur, cmdSN: new(sn + 1)})
				r.command(command{cdb: tur, cmdSN: new(sn + 1)}) // a retry
				r.nothing()
				one := r.command(command{cdb: tur, cmdSN: new(sn)})
				var tags []uint32
				for _, o := range r.take() {
					tags = append(tags, o.bhs.InitiatorTaskTag())
				}
				if diff := cmp.Diff([]uint32{one, second, third}, tags); diff != "" {
					t.Error(diff)
				}
			})
			t.Run("outside", func(t *testing.T) {
				r := newRig(t, options{mapped: true, cmdSN: first})
				for _, off := range []int32{-1, -1000, 8, 1000, -1 << 31} {
					r.command(command{cdb: tur, cmdSN: new(r.cmdSN + uint32(off))})
					r.nothing()
				}
				r.good(r.command(command{cdb: tur}))
			})
		})
	}
}

// TestWindowCloses: commands that are unanswered take their place in the
// window; when it is closed the next command is ignored (§4.2.2.1), and
// immediate ones still run.
func TestWindowCloses(t *testing.T) {
	r := newRig(t, options{depth: 2})
	r.store.hang()
	first := r.command(command{cdb: read10(0, 1), read: true, edtl: blk})
	r.command(command{cdb: read10(0, 1), read: true, edtl: blk})
	r.inBackend(1)
	for range 3 {
		r.command(command{cdb: make([]byte, 6), cmdSN: new(r.cmdSN)})
	}
	r.nothing()
	p := r.good(r.command(command{cdb: make([]byte, 6), immediate: true}))
	if p.ExpCmdSN != r.cmdSN || p.MaxCmdSN != r.cmdSN-1 {
		t.Errorf("ExpCmdSN %d, MaxCmdSN %d; want %d and a closed window", p.ExpCmdSN, p.MaxCmdSN, r.cmdSN)
	}
	r.store.release()
	for range 2 {
		for len(r.sent) == 0 {
			r.completed()
		}
		o := r.take()[0]
		if o.bhs.InitiatorTaskTag() < first || o.bhs.MaxCmdSN() == r.cmdSN-1 {
			t.Errorf("%v; want an answer that opens the window", o.bhs.String())
		}
		if r.c.Outstanding() == 0 {
			break
		}
	}
	r.good(r.command(command{cdb: make([]byte, 6)}))
}

// TestImmediateLimit: what no window bounds is bounded by a Reject.
func TestImmediateLimit(t *testing.T) {
	r := newRig(t, options{})
	r.store.hang()
	var n int
	for n = range 100 {
		r.command(command{cdb: read10(0, 1), read: true, edtl: blk, immediate: true})
		if len(r.sent) > 0 {
			break
		}
	}
	if n != 16 {
		t.Errorf("%d immediate commands were taken", n)
	}
	o := r.rejected(pdu.RejectImmediateCommandReject)
	if len(o.data) != pdu.BHSLen || pdu.Opcode(o.data[0]&0x3f) != pdu.OpSCSICommand {
		t.Errorf("the Reject carries % x", o.data)
	}
}

// TestTagInUse: a tag is used again only after its answer, §11.2.1.8.
func TestTagInUse(t *testing.T) {
	r := newRig(t, options{})
	r.store.hang()
	tag := r.command(command{cdb: read10(0, 1), read: true, edtl: blk})
	r.command(command{cdb: read10(0, 1), read: true, edtl: blk, tag: tag})
	r.rejected(pdu.RejectTaskInProgress)
	r.store.release()
	r.completed()
	r.take()
	r.good(r.command(command{cdb: make([]byte, 6), tag: tag}))
}

// TestHeldData: commands sent ahead of a missing one may bring a bounded amount
// of data.
func TestHeldData(t *testing.T) {
	r := newRig(t, options{mapped: true, depth: 64})
	data := pattern(256<<10, 1)
	for i := 1; r.err == nil; i++ {
		if i == 32 {
			t.Fatal("8 MiB are held")
		}
		sn := r.cmdSN + uint32(i)
		r.command(command{cdb: write10(0, 512), write: true, edtl: 256 << 10, data: data, cmdSN: &sn})
	}
	r.nothing()
}
