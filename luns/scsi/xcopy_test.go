package scsi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"slices"
	"sync/atomic"
	"testing"

	"pgregory.net/rapid"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
)

// cscd is an identification CSCD descriptor by NAA.
func cscd(naa uint64, blockSize int) []byte {
	b := make([]byte, 32)
	b[0], b[4], b[5], b[7] = 0xE4, 1, 3, 8
	binary.BigEndian.PutUint64(b[8:], naa)
	binary.BigEndian.PutUint32(b[28:], uint32(blockSize))
	return b
}

// segment is a block to block segment descriptor.
func segment(src, dst, blocks int, from, to uint64) []byte {
	b := make([]byte, 28)
	b[0], b[3] = 0x02, 24
	binary.BigEndian.PutUint16(b[4:], uint16(src))
	binary.BigEndian.PutUint16(b[6:], uint16(dst))
	binary.BigEndian.PutUint16(b[10:], uint16(blocks))
	binary.BigEndian.PutUint64(b[12:], from)
	binary.BigEndian.PutUint64(b[20:], to)
	return b
}

// lid1 makes an EXTENDED COPY(LID1).
func lid1(list, usage byte, cscds, segs []byte) (cdb, out []byte) {
	out = make([]byte, 16)
	out[0], out[1] = list, usage<<3
	binary.BigEndian.PutUint16(out[2:], uint16(len(cscds)))
	binary.BigEndian.PutUint32(out[8:], uint32(len(segs)))
	out = slices.Concat(out, cscds, segs)
	return copyCDB(0, len(out)), out
}

// lid4 makes an EXTENDED COPY(LID4).
func lid4(list uint32, usage byte, cscds, segs []byte) (cdb, out []byte) {
	out = make([]byte, 48)
	out[0], out[1], out[3], out[16] = 1, usage<<3, 0x20, 0xFF
	binary.BigEndian.PutUint32(out[20:], list)
	binary.BigEndian.PutUint16(out[42:], uint16(len(cscds)))
	binary.BigEndian.PutUint16(out[44:], uint16(len(segs)))
	out = slices.Concat(out, cscds, segs)
	return copyCDB(1, len(out)), out
}

func copyCDB(action byte, n int) []byte {
	cdb := make([]byte, 16)
	cdb[0], cdb[1] = 0x83, action
	binary.BigEndian.PutUint32(cdb[10:], uint32(n))
	return cdb
}

// receiveCDB is RECEIVE COPY …; LID4 has a wide list identifier.
func receiveCDB(action byte, list uint32) []byte {
	cdb := make([]byte, 16)
	cdb[0], cdb[1], cdb[12] = 0x84, action, 4
	if action == 5 {
		binary.BigEndian.PutUint32(cdb[2:], list)
	} else {
		cdb[2] = byte(list)
	}
	return cdb
}

// copyRig is a session with several logical units: number i is LUN i.
type copyRig struct {
	rigs    []*rig
	fakes   []*fake
	nexuses []*scsi.Nexus
	hidden  map[uint16]bool
}

func nthNAA(i int) uint64 { return 0x3000000000000001 + uint64(i) }

func newCopyRig(tb testing.TB, set func(i int, cfg *scsi.Config, b *fake)) *copyRig {
	c := &copyRig{hidden: map[uint16]bool{}}
	for i := range 3 {
		b, cfg := newFake(4*mib), baseConfig
		cfg.NAA, cfg.Serial = nthNAA(i), string(rune('a'+i))
		set(i, &cfg, b)
		c.fakes = append(c.fakes, b)
		c.rigs = append(c.rigs, newRig(tb, cfg, b))
		c.nexuses = append(c.nexuses, c.rigs[i].nexus)
	}
	for _, n := range c.nexuses {
		n.Inventory = func() (luns []uint16) {
			for i := range uint16(len(c.nexuses)) {
				if !c.hidden[i] {
					luns = append(luns, i)
				}
			}
			return luns
		}
		n.Peer = func(lun uint16) *scsi.Nexus {
			if c.hidden[lun] {
				return nil
			}
			return c.nexuses[lun]
		}
	}
	return c
}

func TestExtendedCopy(t *testing.T) {
	for name, set := range backends {
		t.Run(name, func(t *testing.T) {
			c := newCopyRig(t, func(_ int, _ *scsi.Config, b *fake) { set(b) })
			r := c.rigs[0]
			rnd := rapid.SliceOfN(rapid.Byte(), 512, 512).Example(1)
			pattern := bytes.Repeat(rnd, 4096)
			copy(c.fakes[1].mem, pattern)
			cscds := slices.Concat(cscd(nthNAA(1), 512), cscd(nthNAA(2), 512))
			r.good(lid1(7, 0, cscds, slices.Concat(segment(0, 1, 4096, 0, 100), segment(0, 0xFFFF, 1, 1, 5))))
			if !bytes.Equal(c.fakes[2].mem[51200:51200+2*mib], pattern) || !bytes.Equal(c.fakes[0].mem[5*512:6*512], rnd) {
				t.Error("not copied")
			}
			// The outcome can be asked for.
			want := unhex(t, "00000008 01 0002 00 00200200")
			if got := r.good(receiveCDB(0, 7), nil); !bytes.Equal(got, want) {
				t.Errorf("status % x, want % x", got, want)
			}
			r.good(lid4(0x12345678, 0, cscds, segment(1, 0, 8, 100, 4000)))
			if !bytes.Equal(c.fakes[1].mem[4000*512:4008*512], pattern[:4096]) {
				t.Error("LID4: not copied")
			}
			want = unhex(t, "0000001c 01 01 0000 ffffffff 00 00 00 00 0000000000001000 0001 000000000000")
			if got := r.good(receiveCDB(5, 0x12345678), nil); !bytes.Equal(got, want) {
				t.Errorf("status % x, want % x", got, want)
			}
			// Another nexus knows nothing of it.
			other := run(t, r.attach(), receiveCDB(0, 7), nil)
			if _, asc := other.key(); asc != scsi.InvalidFieldInCDB {
				t.Errorf("status for another nexus: %v", other)
			}
		})
	}
}

// TestCopyOverlap copies within a unit in both directions.
func TestCopyOverlap(t *testing.T) {
	for name, set := range backends {
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				b := newFake(2 * mib)
				set(b)
				for i := range b.mem {
					b.mem[i] = byte(i>>9) ^ byte(i>>17)
				}
				r := newRig(t, baseConfig, b)
				n := rapid.IntRange(0, 3000).Draw(rt, "blocks")
				from := rapid.IntRange(0, 4096-n).Draw(rt, "from")
				to := rapid.IntRange(0, 4096-n).Draw(rt, "to")
				want := bytes.Clone(b.mem)
				copy(want[to*512:(to+n)*512], bytes.Clone(b.mem[from*512:(from+n)*512]))
				r.good(lid1(0, 3, nil, segment(0xFFFF, 0xFFFF, n, uint64(from), uint64(to))))
				if !bytes.Equal(b.mem, want) {
					rt.Fatal("differs")
				}
			})
		})
	}
}

func TestExtendedCopyErrors(t *testing.T) {
	c := newCopyRig(t, func(i int, cfg *scsi.Config, b *fake) {
		if i == 2 {
			cfg.BlockSize = 4096
		}
	})
	r := c.rigs[0]
	id := cscd(nthNAA(1), 512)
	one := segment(0, 0xFFFF, 1, 0, 0)
	edit := func(b []byte, at int, x ...byte) []byte {
		b = bytes.Clone(b)
		copy(b[at:], x)
		return b
	}
	cdb, ok := lid1(1, 0, id, one)
	cdb4, ok4 := lid4(1, 0, id, one)
	const illegal, aborted = scsi.IllegalRequest, scsi.CopyAborted
	for _, tt := range []struct {
		name     string
		cdb, out []byte
		key      scsi.SenseKey
		asc      scsi.ASC
	}{
		{"cut in target", copyCDB(0, 47), ok[:47], illegal, scsi.ParameterListLengthError},
		{"cut in segment", copyCDB(0, len(ok)-1), ok[:len(ok)-1], illegal, scsi.ParameterListLengthError},
		{"cut header", copyCDB(0, 15), ok[:15], illegal, scsi.ParameterListLengthError},
		{"cut LID4 header", copyCDB(1, 47), ok4[:47], illegal, scsi.ParameterListLengthError},
		{"less arrived", cdb, ok[:40], illegal, scsi.ParameterListLengthError},
		{"huge", copyCDB(0, 0xFFFFFFFF), nil, illegal, scsi.ParameterListLengthError},
		{"segment length beyond", cdb, edit(ok, 8, 0xFF, 0xFF, 0xFF, 0xFF), illegal, scsi.ParameterListLengthError},
		{"inline data", cdb, edit(ok, 15, 1), illegal, scsi.InlineDataLengthExceeded},
		{"usage 01b", cdb, edit(ok, 1, 1<<3), illegal, scsi.InvalidFieldInParamList},
		{"no list, but an identifier", cdb, edit(ok, 1, 3<<3), illegal, scsi.InvalidFieldInParamList},
		{"LID4 format", cdb4, edit(ok4, 0, 0), illegal, scsi.InvalidFieldInParamList},
		{"LID4 header length", cdb4, edit(ok4, 3, 0), illegal, scsi.InvalidFieldInParamList},
		{"LID4 header type", cdb4, edit(ok4, 16, 0), illegal, scsi.InvalidFieldInParamList},
		{"LID4 IMMED and G_SENSE", cdb4, edit(ok4, 15, 3), illegal, scsi.InvalidFieldInParamList},
		{"target type", cdb, edit(ok, 16, 0xE0), illegal, scsi.UnsupportedTargetDescriptor},
		{"segment type", cdb, edit(ok, 48, 0x03), illegal, scsi.UnsupportedSegmentDescriptor},
		{"segment descriptor length", cdb, edit(ok, 51, 23), illegal, scsi.InvalidFieldInParamList},
		{"device type", cdb, edit(ok, 17, 1), aborted, scsi.IncorrectCopyTargetType},
		{"disk block length", cdb, edit(ok, 46, 4), illegal, scsi.InvalidFieldInParamList},
		{"unknown identifier", cdb, edit(ok, 31, 0x99), aborted, scsi.CopyTargetNotReachable},
		{"association", cdb, edit(ok, 21, 0x13), aborted, scsi.CopyTargetNotReachable},
		{"designator length", cdb, edit(ok, 23, 21), aborted, scsi.CopyTargetNotReachable},
		{"index", cdb, edit(ok, 53, 1), aborted, scsi.CopyTargetNotReachable},
		{"beyond the source", cdb, edit(ok, 60, 1), aborted, scsi.CopyTargetNotReachable},
		{"beyond the destination", cdb, edit(ok, 68, 0xFF), aborted, scsi.CopyTargetNotReachable},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			r.bad(tt.cdb, tt.out, tt.key, tt.asc)
		})
	}
	t.Run("too many targets", func(t *testing.T) {
		cdb, out := lid1(1, 0, bytes.Repeat(id, 65), one)
		r.bad(cdb, out, illegal, scsi.TooManyTargetDescriptors)
	})
	t.Run("too many segments", func(t *testing.T) {
		cdb, out := lid1(1, 0, id, bytes.Repeat(one, 65))
		r.bad(cdb, out, illegal, scsi.TooManySegmentDescriptors)
	})
	t.Run("inexact", func(t *testing.T) {
		cdb, out := lid1(1, 0, cscd(nthNAA(2), 4096), segment(0xFFFF, 0, 7, 0, 0))
		r.bad(cdb, out, aborted, scsi.UnexpectedInexactSegment)
		r.good(lid1(1, 0, cscd(nthNAA(2), 4096), segment(0xFFFF, 0, 8, 0, 0)))
	})
	t.Run("nothing", func(t *testing.T) {
		r.good(copyCDB(0, 0), nil)
		r.good(lid1(1, 0, nil, nil))
	})
	if c.fakes[0].mem[0] != 0 {
		t.Error("a failed copy wrote")
	}
}

// TestCopyHidden is CVE-2020-28374: an identifier of a logical unit that is not
// in the LUN map of the initiator reaches nothing, and looks like one that does
// not exist.
func TestCopyHidden(t *testing.T) {
	c := newCopyRig(t, func(int, *scsi.Config, *fake) {})
	copy(c.fakes[2].mem, bytes.Repeat([]byte("secret"), 1000))
	before := bytes.Clone(c.fakes[2].mem)
	c.hidden[2] = true
	r := c.rigs[0]
	for _, s := range [][]byte{segment(0, 0xFFFF, 8, 0, 0), segment(0xFFFF, 0, 8, 0, 0)} {
		hidden := r.bad3(lid1(1, 2, cscd(nthNAA(2), 512), s))
		absent := r.bad3(lid1(1, 2, cscd(nthNAA(9), 512), s))
		if !bytes.Equal(hidden.sense, absent.sense) {
			t.Errorf("hidden % x, absent % x", hidden.sense, absent.sense)
		}
	}
	if !bytes.Equal(c.fakes[2].mem, before) || bytes.Contains(c.fakes[0].mem, []byte("secret")) {
		t.Error("the hidden unit was reached")
	}
}

// bad3 performs a copy that must not reach its target.
func (r *rig) bad3(cdb, out []byte) result {
	r.tb.Helper()
	return r.bad(cdb, out, scsi.CopyAborted, scsi.CopyTargetNotReachable)
}

// TestCopyFailures: the error of either side aborts the copy with the number of
// the segment and the residual, and its details can be fetched.
func TestCopyFailures(t *testing.T) {
	c := newCopyRig(t, func(i int, cfg *scsi.Config, _ *fake) { cfg.ReadOnly = i == 2 })
	r := c.rigs[0]
	cdb, out := lid1(1, 0, cscd(nthNAA(2), 512), segment(0xFFFF, 0, 8, 0, 0))
	r.bad(cdb, out, scsi.CopyAborted, scsi.ThirdPartyDeviceFailure)
	calls := 0
	c.fakes[1].hook = func(op string, _, _ int64) error {
		if calls++; calls == 3 {
			return luns.ErrMedium
		}
		return nil
	}
	cdb, out = lid1(9, 0, cscd(nthNAA(1), 512), slices.Concat(segment(0xFFFF, 0, 8, 0, 0), segment(0xFFFF, 0, 4097, 0, 0)))
	got := r.bad(cdb, out, scsi.CopyAborted, scsi.ThirdPartyDeviceFailure)
	// INFORMATION 4097 - 2048, segment 1, field pointer to the CSCD descriptor.
	if want := unhex(t, "f0 00 0a 00000801 0a 00000001 0d01 00 80 0010"); !bytes.Equal(got.sense, want) {
		t.Errorf("sense % x, want % x", got.sense, want)
	}
	details := r.good(receiveCDB(4, 9), nil)
	if len(details) != 60+18 || details[56] != 2 || !bytes.Equal(details[60:], got.sense) {
		t.Errorf("details % x", details)
	}
	if in := r.good(receiveCDB(0, 9), nil); in[4] != 2 || in[6] != 1 {
		t.Errorf("status % x", in)
	}
	r.bad(receiveCDB(4, 8), nil, scsi.IllegalRequest, scsi.InvalidFieldInCDB)
}

// TestCopyRunning looks at a copy while it runs, tries to use its list
// identifier again, and aborts it.
func TestCopyRunning(t *testing.T) {
	c := newCopyRig(t, func(int, *scsi.Config, *fake) {})
	r := c.rigs[0]
	hold, held := make(chan struct{}), make(chan struct{})
	var once atomic.Bool
	c.fakes[1].hook = func(string, int64, int64) error {
		if once.CompareAndSwap(false, true) {
			close(held)
			<-hold
		}
		return nil
	}
	done := make(chan struct{}, 1)
	cmd := &scsi.Command{Nexus: r.nexus, Done: func(*scsi.Command) { done <- struct{}{} }}
	cmd.CDB, cmd.Out = lid1(3, 0, cscd(nthNAA(1), 512), segment(0xFFFF, 0, 6000, 0, 0))
	if out := cmd.Out; !cmd.Decode() || cmd.OutLen != len(out) || cmd.TryExec() {
		t.Fatal("did not go to a worker")
	}
	cmd.Submit()
	<-held
	if in := r.good(receiveCDB(0, 3), nil); in[4] != 0 {
		t.Errorf("status % x", in)
	}
	if in := r.good(receiveCDB(5, 3), nil); in[4] != 0 || in[5] != 0x11 {
		t.Errorf("status % x", in)
	}
	cdb, out := lid1(3, 0, nil, nil)
	r.bad(cdb, out, scsi.IllegalRequest, scsi.OperationInProgress)
	cdb, out = lid4(3, 0, nil, nil)
	r.bad(cdb, out, scsi.IllegalRequest, scsi.InvalidFieldInParamList)
	r.bad(receiveCDB(4, 3), nil, scsi.IllegalRequest, scsi.InvalidFieldInCDB)
	r.good([]byte{0x83, 0x1C, 0, 0, 0, 3}, nil)
	r.bad([]byte{0x83, 0x1C, 0, 0, 0, 4}, nil, scsi.IllegalRequest, scsi.InvalidFieldInCDB)
	close(hold)
	<-done
	if cmd.Status != scsi.TaskAborted {
		t.Errorf("aborted copy: %v", cmd.Status)
	}
	cmd.Release()
	if in := r.good(receiveCDB(5, 3), nil); in[5] != 0x60 {
		t.Errorf("status % x", in)
	}
}

// TestCopyTable: only so many outcomes are kept.
func TestCopyTable(t *testing.T) {
	r := newRig(t, baseConfig, newFake(mib))
	for i := range byte(40) {
		r.good(lid1(i, 2, nil, nil))
	}
	for i := range byte(40) {
		if got := r.do(receiveCDB(0, uint32(i)), nil); (got.status == scsi.Good) != (i >= 24) {
			t.Errorf("list %d: %v", i, got)
		}
	}
	r.good(lid1(0, 3, nil, nil)) // discards them all
	r.bad(receiveCDB(0, 39), nil, scsi.IllegalRequest, scsi.InvalidFieldInCDB)
}

// FuzzExtendedCopy runs any parameter list against three units, one of which is
// hidden and must stay as it is.
func FuzzExtendedCopy(f *testing.F) {
	_, a := lid1(1, 0, cscd(nthNAA(1), 512), segment(0, 0xFFFF, 3, 1, 2))
	_, b := lid4(1, 0, slices.Concat(cscd(nthNAA(1), 512), cscd(nthNAA(0), 512)), segment(0, 1, 3, 1, 2))
	_, x := lid1(1, 0, cscd(nthNAA(2), 512), segment(0xFFFF, 0, 3, 1, 2))
	f.Add(a, false)
	f.Add(b, true)
	f.Add(x, false)
	c := newCopyRig(f, func(i int, _ *scsi.Config, b *fake) {
		if i == 1 {
			n := 0
			b.hook = func(string, int64, int64) error {
				if n++; n%7 == 0 {
					return errors.New("odd")
				}
				return nil
			}
		}
	})
	c.hidden[2] = true
	f.Fuzz(func(t *testing.T, out []byte, long bool) {
		action := byte(0)
		if long {
			action = 1
		}
		run(t, c.nexuses[0], copyCDB(action, len(out)), out)
		if len(c.fakes[2].log) != 0 {
			t.Fatal("the hidden unit was reached")
		}
	})
}
