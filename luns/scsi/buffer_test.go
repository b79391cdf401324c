package scsi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
)

// buffer makes READ BUFFER (3Ch) and WRITE BUFFER (3Bh).
func buffer(op, mode, id byte, off, n int) []byte {
	return []byte{op, mode, id, byte(off >> 16), byte(off >> 8), byte(off), byte(n >> 16), byte(n >> 8), byte(n), 0}
}

func TestBuffers(t *testing.T) {
	r := newRig(t, baseConfig, newFake(mib))
	const key, inCDB = scsi.IllegalRequest, scsi.InvalidFieldInCDB
	if got, want := r.good(buffer(0x3C, 3, 0, 0, 4), nil), unhex(t, "00001000"); !bytes.Equal(got, want) {
		t.Errorf("descriptor % x", got)
	}
	if got := r.good(buffer(0x3C, 3, 1, 0, 4), nil); !bytes.Equal(got, make([]byte, 4)) {
		t.Errorf("descriptor of no buffer % x", got)
	}
	if got, want := r.good(buffer(0x3C, 0x0B, 0, 0, 4), nil), unhex(t, "01001000"); !bytes.Equal(got, want) {
		t.Errorf("echo descriptor % x", got)
	}
	if got := r.good(buffer(0x3C, 2, 0, 0, 5000), nil); !bytes.Equal(got, make([]byte, 4096)) {
		t.Error("a fresh buffer is not zero")
	}
	r.good(buffer(0x3B, 2, 0, 4000, 96), fill(96, 7))
	if got := r.good(buffer(0x3C, 2, 0, 3999, 200), nil); !bytes.Equal(got, append([]byte{0}, fill(96, 7)...)) {
		t.Errorf("data % x", got)
	}
	r.bad(buffer(0x3C, 0x0A, 0, 0, 10), nil, key, scsi.CommandSequenceError)
	r.good(buffer(0x3B, 0x0A, 0, 0, 5), []byte("hello"))
	if got := r.good(buffer(0x3C, 0x0A, 0, 0, 100), nil); string(got) != "hello" {
		t.Errorf("echo %q", got)
	}
	other := r.attach()
	if got := run(t, other, buffer(0x3C, 2, 0, 0, 5000), nil); !bytes.Equal(got.in, make([]byte, 4096)) {
		t.Error("data of another nexus")
	}
	if got := run(t, other, buffer(0x3C, 0x0A, 0, 0, 5), nil); got.status != scsi.CheckCondition {
		t.Errorf("echo of another nexus: %v", got)
	}
	for _, cdb := range [][]byte{
		buffer(0x3B, 2, 0, 4000, 97), buffer(0x3B, 2, 1, 0, 1), buffer(0x3B, 2, 0, 4097, 0), buffer(0x3B, 0x0A, 0, 0, 4097),
		buffer(0x3B, 5, 0, 0, 0), buffer(0x3B, 0, 0, 0, 0), buffer(0x3B, 0x42, 0, 0, 0),
		buffer(0x3C, 2, 0, 4097, 1), buffer(0x3C, 2, 9, 0, 1), buffer(0x3C, 0, 0, 0, 1), buffer(0x3C, 0x1C, 0, 0, 1),
	} {
		r.bad(cdb, make([]byte, 5000), key, inCDB)
	}
	r.bad(buffer(0x3B, 2, 0, 0, 10), make([]byte, 9), key, scsi.ParameterListLengthError)
	r.bad(buffer(0x3B, 2, 0, 0, 0xFFFFFF), nil, key, inCDB)
}

func TestWriteAtomic(t *testing.T) {
	atomicCDB := func(lba uint64, n, boundary uint16) []byte {
		b := make([]byte, 16)
		b[0] = 0x9C
		binary.BigEndian.PutUint64(b[2:], lba)
		binary.BigEndian.PutUint16(b[10:], boundary)
		binary.BigEndian.PutUint16(b[12:], n)
		return b
	}
	limit := func(r *rig) uint32 {
		return binary.BigEndian.Uint32(r.good([]byte{0x12, 1, 0xB0, 0, 255, 0}, nil)[44:])
	}
	// A backend whose writes may tear has no atomic writes.
	r := newRig(t, baseConfig, newFake(mib))
	r.bad(atomicCDB(0, 1, 0), nil, scsi.IllegalRequest, scsi.InvalidOperationCode)
	if got := limit(r); got != 0 {
		t.Errorf("limit %d", got)
	}
	memory := newFake(mib)
	memory.mapper, memory.info.VolatileCache = true, false
	for name, b := range map[string]luns.Backend{"memory": memory, "device": &atomicFake{newFake(mib)}} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, baseConfig, b)
			want := uint32(32768)
			if name == "device" {
				want = 16
			}
			if got := limit(r); got != want {
				t.Errorf("limit %d, want %d", got, want)
			}
			r.good(atomicCDB(2032, 16, 0), fill(8192, 0xEE))
			if got := r.good(rw10(0x28, 2032, 16), nil); !bytes.Equal(got, fill(8192, 0xEE)) {
				t.Error("not written")
			}
			const key = scsi.IllegalRequest
			r.good(atomicCDB(2048, 0, 0), nil)
			r.bad(atomicCDB(2049, 0, 0), nil, key, scsi.LBAOutOfRange)
			r.bad(atomicCDB(2047, 2, 0), fill(1024, 1), key, scsi.LBAOutOfRange)
			r.bad(atomicCDB(0, 1, 1), fill(512, 1), key, scsi.InvalidFieldInCDB)
			r.bad(with(atomicCDB(0, 1, 0), 1, 0x20), fill(512, 1), key, scsi.InvalidFieldInCDB)
			r.bad(atomicCDB(0, 2, 0), fill(512, 1), key, scsi.InvalidFieldInCDB) // half of it is missing
			if got := r.good(rw10(0x28, 0, 1), nil); !bytes.Equal(got, make([]byte, 512)) {
				t.Error("a part was written")
			}
			r.bad(atomicCDB(0, 0xFFFF, 0), nil, key, scsi.InvalidFieldInCDB)
		})
	}
}

// atomicFake writes 8 KiB all or nothing.
type atomicFake struct{ *fake }

func (*atomicFake) AtomicWriteSize() int64 { return 8192 }

func (f *atomicFake) As(target any) bool {
	if t, ok := target.(*scsi.AtomicWriter); ok {
		*t = f
		return true
	}
	return f.fake.As(target)
}

func TestReadDefectData(t *testing.T) {
	r := newRig(t, baseConfig, newFake(mib))
	if got := r.good([]byte{0x37, 0, 0x1D, 0, 0, 0, 0, 0, 32, 0}, nil); !bytes.Equal(got, []byte{0, 0x1D, 0, 0}) {
		t.Errorf("% x", got)
	}
	if got := r.good([]byte{0xB7, 0x08, 0, 0, 0, 0, 0, 0, 0, 32, 0, 0}, nil); !bytes.Equal(got, []byte{0, 8, 0, 0, 0, 0, 0, 0}) {
		t.Errorf("% x", got)
	}
	r.bad([]byte{0xB7, 0x08, 0, 0, 0, 1, 0, 0, 0, 32, 0, 0}, nil, scsi.IllegalRequest, scsi.InvalidFieldInCDB)
}

func TestTimestamp(t *testing.T) {
	r := newRig(t, baseConfig, newFake(mib))
	other := r.attach()
	report := []byte{0xA3, 0x0F, 0, 0, 0, 0, 0, 0, 0, 255, 0, 0}
	stamp := func(b []byte) int64 {
		return int64(binary.BigEndian.Uint16(b[4:]))<<32 | int64(binary.BigEndian.Uint32(b[6:]))
	}
	now := time.Now().UnixMilli()
	in := r.good(report, nil)
	if d := stamp(in) - now; len(in) != 12 || in[1] != 10 || in[2] != 3 || d < 0 || d > 60000 {
		t.Errorf("% x", in)
	}
	set := []byte{0xA4, 0x0F, 0, 0, 0, 0, 0, 0, 0, 12, 0, 0}
	r.good(set, []byte{0, 0, 0, 0, 0x01, 0x02, 0, 0, 0, 0, 0, 0})
	in = r.good(report, nil)
	if d := stamp(in) - 0x010200000000; in[2] != 2 || d < 0 || d > 60000 {
		t.Errorf("% x", in)
	}
	if got := run(t, other, make([]byte, 6), nil); got.sense == nil || got.sense[12] != 0x2A || got.sense[13] != 0x10 {
		t.Errorf("the other nexus: %v", got)
	}
	r.bad(with(set, 9, 1), nil, scsi.IllegalRequest, scsi.ParameterListLengthError)
	r.bad(set, make([]byte, 11), scsi.IllegalRequest, scsi.ParameterListLengthError)
}

// counted is a backend that counts its resources.
type counted struct {
	*fake
	used, available int64
}

func (c *counted) Resources(context.Context) (used, available int64, err error) {
	return c.used, c.available, nil
}

func (c *counted) As(target any) bool {
	if t, ok := target.(*luns.ResourceCounter); ok {
		*t = c
		return true
	}
	return c.fake.As(target)
}

func TestLogPages(t *testing.T) {
	r := newRig(t, baseConfig, &counted{newFake(mib), 3 << 20, 5 << 20})
	logs := func(page, subpage byte) []byte { return []byte{0x4D, 0, 0x40 | page, subpage, 0, 0, 0, 1, 0, 0} }
	for _, tt := range []struct {
		name string
		cdb  []byte
		want []string
	}{
		{"supported", logs(0, 0), []string{"00 00 0004 00 0c 19 2f"}},
		{"supported subpages", logs(0, 0xFF), []string{"40 ff 000a 0000 00ff 0c00 1900 2f00"}},
		{"provisioning", logs(0x0C, 0), []string{"0c 00 0018 0001 03 08 00000005 00000000 0002 03 08 00000003 00000000"}},
		{"statistics", logs(0x19, 0), []string{"19 00 0050 0001 03 40", nul(64), "0003 03 08 00000006 00000001"}},
		{"interval", with(logs(0x19, 0), 6, 2), []string{"19 00 000c 0003 03 08 00000006 00000001"}},
		{"exceptions", logs(0x2F, 0), []string{"2f 00 0008 0000 03 04 0000 ff 00"}},
		{"B2", []byte{0x12, 1, 0xB2, 0, 255, 0}, []string{"00 b2 0004 0b e4 02 00"}},
	} {
		if diff := cmp.Diff(unhex(t, tt.want...), r.good(tt.cdb, nil)); diff != "" {
			t.Errorf("%s (-want +got)\n%s", tt.name, diff)
		}
	}
	const key, inCDB = scsi.IllegalRequest, scsi.InvalidFieldInCDB
	r.bad(logs(0x0D, 0), nil, key, inCDB)
	r.bad(logs(0x19, 1), nil, key, inCDB)
	r.bad(with(logs(0x19, 0), 1, 1), nil, key, inCDB)
	r.bad(with(logs(0x19, 0), 6, 4), nil, key, inCDB)
	r.bad([]byte{0x4D, 0, 0x19, 0, 0, 0, 0, 1, 0, 0}, nil, key, inCDB) // threshold values
	// Without a count of resources there is no page.
	newRig(t, baseConfig, newFake(mib)).bad(logs(0x0C, 0), nil, key, inCDB)

	// The counters count, and can be reset.
	c := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x2A, 0, 4))}
	var x scsi.Meter
	x.Begin(c, 0)
	c.Decode()
	x.End(c, 1000, 2048)
	r.nexus.Publish()
	c.Release()
	if in := r.good(logs(0x19, 0), nil); in[8+15] != 1 || in[8+23] != 4 {
		t.Errorf("% x", in)
	}
	sel := []byte{0x4C, 2, 0x40, 0, 0, 0, 0, 0, 0, 0}
	r.good(sel, nil)
	if in := r.good(logs(0x19, 0), nil); !bytes.Equal(in[8:72], make([]byte, 64)) {
		t.Errorf("% x", in)
	}
	r.bad(with(sel, 1, 1), nil, key, inCDB)
	r.bad(with(sel, 8, 1), nil, key, inCDB)
	r.bad(with(sel, 2, 0x0D), nil, key, inCDB)
}

// TestThinThreshold: the soft threshold is told once, and again after there was
// space.
func TestThinThreshold(t *testing.T) {
	cfg := baseConfig
	cfg.ThinThreshold = 80
	if _, err := scsi.NewUnit(cfg, newFake(mib)); err == nil {
		t.Error("a threshold without a count")
	}
	cfg.Thin = false
	if _, err := scsi.NewUnit(cfg, &counted{newFake(mib), 0, 1}); err == nil {
		t.Error("a threshold of a unit that is not thin")
	}
	cfg.Thin = true
	cfg.Spawn = func(f func()) { f() } // looks are taken at once, and so are waits
	b := &counted{newFake(mib), 0, 100}
	b.trier, b.info.VolatileCache = true, false
	r := newRig(t, cfg, b)
	write := func() bool {
		t.Helper()
		for range 129 { // 64 MiB and more
			r.good(rw10(0x2A, 0, 1024), fill(512<<10, 1))
			if r.nexus.Pending() {
				r.bad(make([]byte, 6), nil, scsi.UnitAttention, scsi.ThinSoftThreshold)
				return true
			}
		}
		return false
	}
	for i, step := range []struct {
		used int64
		told bool
	}{{79, false}, {80, true}, {90, false}, {10, false}, {95, true}} {
		b.used, b.available = step.used, 100-step.used
		if got := write(); got != step.told {
			t.Errorf("step %d: told %v", i, got)
		}
	}
	// The Logical Block Provisioning mode page, SBC-4 6.5.9: 80 % of 1000 MiB.
	b.used, b.available = 500<<20, 500<<20
	write()
	page := r.good([]byte{0x5A, 0x08, 0x1C, 0x02, 0, 0, 0, 0, 255, 0}, nil)[8:]
	if diff := cmp.Diff(unhex(t, "5c 02 0014 00"+nul(11)+"81 02 0000 00000320"), page); diff != "" {
		t.Errorf("mode page (-want +got)\n%s", diff)
	}
	if got := r.do([]byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, 32, 0}, append(make([]byte, 8), page...)); got.status != scsi.Good {
		t.Errorf("MODE SELECT of what is: %v", got)
	}
	// The end of all space.
	b.hook = func(string, int64, int64) error { return luns.ErrNoSpace }
	r.bad(rw10(0x2A, 0, 1), fill(512, 1), scsi.DataProtect, scsi.SpaceAllocationFailed)
}

// TestAnnounced: data-out that does not fit the CDB is refused where it would
// change what the command means.
func TestAnnounced(t *testing.T) {
	r := newRig(t, baseConfig, newFake(mib))
	for _, tt := range []struct {
		cdb       []byte
		announced uint32
		ok        bool
	}{
		{caw(0, 1), 1024, true},
		{caw(0, 1), 0, true},
		{caw(0, 1), 2048, false},
		{caw(0, 0), 512 << 9, false},
		{rw16(0x93, 0, 1), 512, true},
		{rw16(0x93, 0, 1), 1024, false},
		{with(rw16(0x93, 0, 1), 1, 1), 0, true},
		{with(rw16(0x93, 0, 1), 1, 1), 512, false},
		{rw10(0x41, 0, 1), 1024, false},
		{rw10(0x2A, 0, 1), 1024, true},
	} {
		done := make(chan struct{}, 1)
		c := &scsi.Command{Nexus: r.nexus, CDB: cdb16(tt.cdb), Announced: tt.announced, Done: func(*scsi.Command) { done <- struct{}{} }}
		if !c.Decode() {
			t.Fatalf("% x: %v", tt.cdb, c.Status)
		}
		if c.Out = make([]byte, c.OutLen); !c.TryExec() {
			c.Submit()
			<-done
		}
		if (c.Status == scsi.Good) != tt.ok {
			t.Errorf("% x with %d bytes: %v", tt.cdb, tt.announced, c.Status)
		}
		c.Release()
		if c.Reset(); c.Announced != 0 {
			t.Error("Reset keeps Announced")
		}
	}
}

// TestCopyFenced: reservations and write protection of either side hold for
// copies as for its own commands.
func TestCopyFenced(t *testing.T) {
	c := newCopyRig(t, func(int, *scsi.Config, *fake) {})
	r := c.rigs[0]
	copyTo := func(lun int) result {
		cdb, out := lid1(1, 2, cscd(nthNAA(lun), 512), segment(0xFFFF, 0, 8, 0, 0))
		return r.do(cdb, out)
	}
	if got := copyTo(1); got.status != scsi.Good {
		t.Fatal(got)
	}
	// Another initiator reserves LUN 1 (SPC-2).
	itn := *testITN
	itn.InitiatorName += "2"
	other := c.rigs[1].port.Attach(&itn)
	drainAttentions(t, other)
	if got := run(t, other, []byte{0x16, 0, 0, 0, 0, 0}, nil); got.status != scsi.Good {
		t.Fatal(got)
	}
	if k, a := copyTo(1).key(); k != scsi.CopyAborted || a != scsi.ThirdPartyDeviceFailure {
		t.Errorf("to a reserved unit: %v %v", k, a)
	}
	cdb, out := lid1(1, 2, cscd(nthNAA(1), 512), segment(0, 0xFFFF, 8, 0, 0))
	if k, a := r.do(cdb, out).key(); k != scsi.CopyAborted || a != scsi.ThirdPartyDeviceFailure {
		t.Errorf("from a reserved unit: %v %v", k, a)
	}
	other.Detach()
	if got := copyTo(1); got.status != scsi.Good {
		t.Errorf("after the release: %v", got)
	}
	c.nexuses[2].ReadOnly = true
	if k, _ := copyTo(2).key(); k != scsi.CopyAborted {
		t.Errorf("to a read-only view: %v", k)
	}
	if slices.ContainsFunc(c.fakes[2].log, func(op string) bool { return op == "write" }) {
		t.Error("written")
	}
}
