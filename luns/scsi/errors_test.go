package scsi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"fmt"
	"io"
	"iter"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
)

// errorTable is what each class of errors becomes: of ErrMedium what the failing
// call wrote, or could not read, decides.
var errorTable = []struct {
	err         error
	status      scsi.Status
	key         scsi.SenseKey
	read, write scsi.ASC
}{
	{luns.ErrMedium, scsi.CheckCondition, scsi.MediumError, scsi.UnrecoveredReadError, scsi.WriteErr},
	{luns.ErrNoSpace, scsi.CheckCondition, scsi.DataProtect, scsi.SpaceAllocationFailed, scsi.SpaceAllocationFailed},
	{luns.ErrReadOnly, scsi.CheckCondition, scsi.DataProtect, scsi.WriteProtected, scsi.WriteProtected},
	{luns.ErrOffline, scsi.CheckCondition, scsi.IllegalRequest, scsi.LUNotSupported, scsi.LUNotSupported},
	{luns.ErrTransient, scsi.Busy, 0, 0, 0},
	{io.ErrUnexpectedEOF, scsi.CheckCondition, scsi.HardwareError, scsi.InternalTargetFailure, scsi.InternalTargetFailure},
}

// TestEveryBackendCallFails lets the k-th backend call of each command fail with
// each class of errors: the command is never GOOD, its sense is that of the table,
// and the range is free afterwards.
func TestEveryBackendCallFails(t *testing.T) {
	unmapCDB, unmapList := unmapCmd(0, 8, 16, 8)
	status := rw16(0x9E, 0, 1000)
	status[1] = 0x12
	zero := make([]byte, 5<<20)
	for _, tt := range []struct {
		name     string
		cdb, out []byte
		calls    int
	}{
		{"READ", rw10(0x28, 0, 8), nil, 1},
		{"READ FUA", with(rw10(0x28, 0, 8), 1, 8), nil, 2},
		{"WRITE", rw10(0x2A, 0, 8), fill(4096, 1), 1},
		{"WRITE AND VERIFY", rw10(0x2E, 0, 8), zero[:4096], 2},
		{"WRITE AND VERIFY compare", with(rw10(0x2E, 0, 8), 1, 2), zero[:4096], 2},
		{"VERIFY", rw10(0x2F, 0, 4096), nil, 2},
		{"VERIFY compare", with(rw10(0x2F, 0, 4096), 1, 2), zero, 2},
		{"VERIFY compare one", with(rw10(0x2F, 0, 3), 1, 6), zero[:512], 3},
		{"COMPARE AND WRITE", caw(0, 1), zero[:1024], 2},
		{"ORWRITE", rw16(0x8B, 0, 4096), zero, 4},
		{"WRITE SAME", rw16(0x93, 0, 5000), fill(512, 1), 3},
		{"WRITE SAME zero", rw16(0x93, 0, 5000), zero[:512], 3},
		{"SYNCHRONIZE CACHE", rw10(0x35, 0, 0), nil, 1},
		{"START STOP UNIT", []byte{0x1B, 0, 0, 0, 0, 0}, nil, 1},
		{"UNMAP", unmapCDB, unmapList, 2},
		{"GET LBA STATUS", status, nil, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newFake(4 * mib)
			r := newRig(t, baseConfig, b)
			for k := range tt.calls {
				for _, e := range errorTable {
					calls, failed := 0, ""
					b.hook = func(op string, _, _ int64) error {
						if calls++; calls == k+1 {
							failed = op
							return fmt.Errorf("disk: %w", e.err)
						}
						return nil
					}
					got := r.do(tt.cdb, tt.out)
					b.hook = nil
					want := e.write
					if failed == "read" || failed == "extents" {
						want = e.read
					}
					if key, asc := got.key(); got.status != e.status || key != e.key || asc != want {
						t.Errorf("call %d, a %s, fails with %v: %v, want %v %v %v", k+1, failed, e.err, got, e.status, e.key, want)
					}
					if n := r.unit.Inflight(); n != 0 {
						t.Errorf("call %d fails: %d commands in flight", k+1, n)
					}
					clear(b.mem)
				}
			}
			calls := 0
			b.hook = func(string, int64, int64) error { calls++; return nil }
			if got := r.do(tt.cdb, tt.out); got.status != scsi.Good || calls != tt.calls {
				t.Errorf("without failure: %v after %d calls", got, calls)
			}
		})
	}
	t.Run("UNMAP write through", func(t *testing.T) {
		cfg := baseConfig
		cfg.WriteCache = false
		b := newFake(mib)
		r := newRig(t, cfg, b)
		b.hook = func(op string, _, _ int64) error {
			if op == "flush" {
				return luns.ErrMedium
			}
			return nil
		}
		r.bad(unmapCDB, unmapList, scsi.MediumError, scsi.WriteErr)
		b.hook = nil
	})
}

// extents is a backend with fixed extents.
type extents struct {
	*fake
	list []luns.Extent
}

func (e *extents) As(target any) bool {
	if x, ok := target.(*luns.Extenter); ok {
		*x = e
		return true
	}
	return e.fake.As(target)
}

func (e *extents) Extents(_ context.Context, off, n int64) iter.Seq2[luns.Extent, error] {
	return func(yield func(luns.Extent, error) bool) {
		for _, x := range e.list {
			lo, hi := max(off, x.Off), min(off+n, x.Off+x.Len)
			if lo < hi && !yield(luns.Extent{Off: lo, Len: hi - lo, State: x.State}, nil) {
				return
			}
		}
	}
}

// TestLBAStatusRounding has extents that do not end on blocks: a block that is
// deallocated in part is mapped.
func TestLBAStatusRounding(t *testing.T) {
	b := &extents{fake: newFake(mib), list: []luns.Extent{
		{Off: 0, Len: 700, State: luns.Deallocated},
		{Off: 700, Len: 1000, State: luns.Mapped},
		{Off: 1700, Len: 100, State: luns.Deallocated},
		{Off: 1800, Len: 10 * 512, State: luns.Deallocated},
		{Off: 1800 + 10*512, Len: mib - 1800 - 10*512, State: luns.Mapped},
	}}
	r := newRig(t, baseConfig, b)
	type desc struct {
		LBA    uint64
		Blocks uint32
		State  byte
	}
	ask := func(lba uint64, alloc uint32) (ds []desc) {
		cdb := rw16(0x9E, lba, alloc)
		cdb[1] = 0x12
		for d := r.good(cdb, nil)[8:]; len(d) > 0; d = d[16:] {
			ds = append(ds, desc{binary.BigEndian.Uint64(d), binary.BigEndian.Uint32(d[8:]), d[12]})
		}
		return ds
	}
	want := []desc{{0, 1, 1}, {1, 3, 0}, {4, 9, 1}, {13, 2048 - 13, 0}}
	if diff := cmp.Diff(want, ask(0, 1000)); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff(want[:2], ask(0, 8+32+15)[:2]); diff != "" {
		t.Error(diff)
	}
	if diff := cmp.Diff([]desc{{2, 2, 0}, {4, 9, 1}}, ask(2, 40)); diff != "" {
		t.Error(diff)
	}
}

func TestModeSelectLists(t *testing.T) {
	r := newRig(t, baseConfig, newFake(mib))
	long := binary.BigEndian.AppendUint64(nil, 2048)
	long = append(long, 0, 0, 0, 0, 0, 0, 2, 0)
	extension := append([]byte{0x4A, 0x01, 0, 0x1C, 6}, make([]byte, 27)...)
	for _, tt := range []struct {
		name string
		list []byte
		asc  scsi.ASC
	}{
		{"header only", make([]byte, 8), 0},
		{"long descriptor", append([]byte{0, 0, 0, 0, 1, 0, 0, 16}, long...), 0},
		{"subpage", append(make([]byte, 8), extension...), 0},
		{"two pages", append(append(make([]byte, 8), extension...), 0x0A, 0x0A, 2, 0x10, 0, 0, 0, 0, 0, 0, 0, 0), 0},
		{"short header", make([]byte, 7), scsi.ParameterListLengthError},
		{"short descriptor", []byte{0, 0, 0, 0, 1, 0, 0, 16, 0}, scsi.ParameterListLengthError},
		{"page of one byte", append(make([]byte, 8), 0x0A), scsi.ParameterListLengthError},
		{"subpage header", append(make([]byte, 8), 0x4A, 1, 0), scsi.ParameterListLengthError},
		{"long block length", append([]byte{0, 0, 0, 0, 1, 0, 0, 16}, make([]byte, 16)...), scsi.InvalidFieldInParamList},
		{"unknown subpage", append(make([]byte, 8), 0x4A, 2, 0, 0), scsi.InvalidFieldInParamList},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			cdb := []byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, byte(len(tt.list)), 0}
			if tt.asc == 0 {
				r.good(cdb, tt.list)
				return
			}
			r.bad(cdb, tt.list, scsi.IllegalRequest, tt.asc)
		})
	}
}

func TestAccessors(t *testing.T) {
	cfg := baseConfig
	cfg.ReadOnly = true
	r := newRig(t, cfg, newFake(mib))
	u := r.port.Unit()
	if u != r.unit || u.BlockSize() != 512 || u.Capacity() != 2048 || !u.ReadOnly() || u.Config().MaxTransferLength != 32768 {
		t.Errorf("unit %+v", u.Config())
	}
	if r.nexus.Port() != r.port || r.nexus.ITN() != testITN {
		t.Error("nexus")
	}
	c := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x28, 5, 6))}
	if c.Name() != "" || !c.Decode() || c.Name() != "READ(10)" {
		t.Errorf("name %q", c.Name())
	}
	if lba, n := c.LBA(); lba != 5 || n != 6 {
		t.Errorf("LBA %d, %d", lba, n)
	}
	if c.Abort() {
		t.Error("a command that was not submitted was taken from the queue")
	}
	// Revoked between Decode and Submit.
	if err := r.port.Revoke(t.Context()); err != nil {
		t.Fatal(err)
	}
	done := false
	c.Done = func(*scsi.Command) { done = true }
	c.Submit()
	if !done || c.Status != scsi.Busy {
		t.Errorf("done %v, %v", done, c.Status)
	}
	if scsi.Attention(99).ASC() != 0 {
		t.Error("ASC of no attention")
	}
	r.nexus.Attention(scsi.Attention(99))
	if r.nexus.Pending() {
		t.Error("unknown attention is pending")
	}
}

// TestNoBuffer gives a READ no buffer: a mistake of the owner, and an error of
// that command alone.
func TestNoBuffer(t *testing.T) {
	b := newFake(mib)
	b.trier = true
	r := newRig(t, baseConfig, b)
	c := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x28, 5, 6))}
	if !c.Decode() || c.NeedBuf != 6*512 || !c.TryExec() || c.Status != scsi.CheckCondition {
		t.Errorf("NeedBuf %d, %v", c.NeedBuf, c.Status)
	}
	c.Release()
}

// TestShrunkMemory has a mapped backend lose its memory under the unit.
func TestShrunkMemory(t *testing.T) {
	b := newFake(mib)
	b.mapper = true
	r := newRig(t, baseConfig, b)
	b.mem = b.mem[:512]
	for _, c := range []struct{ cdb, out []byte }{
		{rw10(0x28, 0, 2), nil},
		{rw10(0x2A, 0, 2), fill(1024, 1)},
		{caw(0, 2), fill(2048, 1)},
		{rw16(0x8B, 0, 2), fill(1024, 1)},
		{rw10(0x41, 0, 2), fill(512, 1)},
		{with(rw10(0x2F, 0, 2), 1, 2), fill(1024, 1)},
		{rw10(0x2E, 0, 2), fill(1024, 1)},
	} {
		t.Run(fmt.Sprintf("%02x", c.cdb[0]), func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			r.bad(c.cdb, c.out, scsi.IllegalRequest, scsi.LUNotSupported)
		})
	}
	if !bytes.Equal(b.mem, make([]byte, 512)) {
		t.Error("written")
	}
}
