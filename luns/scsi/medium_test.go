package scsi_test

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
)

const mib = 1 << 20

func TestReadWriteShapes(t *testing.T) {
	onEach(t, 4*mib, baseConfig, func(t *testing.T, r *rig, _ *fake) {
		for i, op := range []struct {
			name        string
			write, read func(lba, n int) []byte
		}{
			{
				"6",
				func(lba, n int) []byte { return []byte{0x0A, byte(lba >> 16), byte(lba >> 8), byte(lba), byte(n), 0} },
				func(lba, n int) []byte { return []byte{0x08, byte(lba >> 16), byte(lba >> 8), byte(lba), byte(n), 0} },
			},
			{
				"10",
				func(lba, n int) []byte { return rw10(0x2A, uint32(lba), uint16(n)) },
				func(lba, n int) []byte { return rw10(0x28, uint32(lba), uint16(n)) },
			},
			{
				"12",
				func(lba, n int) []byte {
					return []byte{0xAA, 0, 0, 0, byte(lba >> 8), byte(lba), 0, 0, 0, byte(n), 0, 0}
				},
				func(lba, n int) []byte {
					return []byte{0xA8, 0, 0, 0, byte(lba >> 8), byte(lba), 0, 0, 0, byte(n), 0, 0}
				},
			},
			{
				"16",
				func(lba, n int) []byte { return rw16(0x8A, uint64(lba), uint32(n)) },
				func(lba, n int) []byte { return rw16(0x88, uint64(lba), uint32(n)) },
			},
		} {
			t.Run(op.name, func(t *testing.T) {
				r := &rig{tb: t, nexus: r.nexus}
				want := fill(3*512, byte(0x11*(i+1)))
				r.good(op.write(700+i*10, 3), want)
				if diff := cmp.Diff(want, r.good(op.read(700+i*10, 3), nil)); diff != "" {
					t.Error(diff)
				}
			})
		}
		t.Run("FUA", func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			r.good(with(rw10(0x2A, 9, 1), 1, 0x18), fill(512, 7))
			if got := r.good(with(rw10(0x28, 9, 1), 1, 0x18), nil); !bytes.Equal(got, fill(512, 7)) {
				t.Error("read other data")
			}
		})
		t.Run("6 byte zero is 256", func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			if n := len(r.good([]byte{0x08, 0, 0, 0, 0, 0}, nil)); n != 256*512 {
				t.Errorf("READ(6) of 0 returned %d bytes", n)
			}
		})
		t.Run("short data-out writes whole blocks", func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			r.good(rw10(0x2A, 50, 3), fill(3*512, 1))
			r.good(rw10(0x2A, 50, 3), fill(512+100, 2))
			want := append(fill(512, 2), fill(1024, 1)...)
			if !bytes.Equal(want, r.good(rw10(0x28, 50, 3), nil)) {
				t.Error("not exactly the first block was written")
			}
		})
	})
}

func TestRangeAndFields(t *testing.T) {
	const last = 4*mib/512 - 1
	type row struct {
		name string
		cdb  []byte
		out  int
		asc  scsi.ASC // 0 is GOOD
	}
	var rows []row
	add := func(name string, cdb []byte, out int, asc scsi.ASC) { rows = append(rows, row{name, cdb, out, asc}) }
	for _, op := range []byte{0x88, 0x8A, 0x8F, 0x8B, 0x8E} {
		name := fmt.Sprintf("%02x ", op)
		add(name+"last", rw16(op, last, 1), 512, 0)
		add(name+"beyond", rw16(op, last+1, 1), 512, scsi.LBAOutOfRange)
		add(name+"across", rw16(op, last, 2), 1024, scsi.LBAOutOfRange)
		add(name+"zero at end", rw16(op, last+1, 0), 0, 0)
		add(name+"zero beyond", rw16(op, last+2, 0), 0, scsi.LBAOutOfRange)
		add(name+"max lba", rw16(op, 1<<64-1, 2), 1024, scsi.LBAOutOfRange)
		add(name+"too long", rw16(op, 0, 32769), 0, scsi.InvalidFieldInCDB)
		add(name+"protect", with(rw16(op, 0, 1), 1, 0x20), 512, scsi.InvalidFieldInCDB)
		add(name+"naca", with(rw16(op, 0, 1), 15, 0x04), 512, scsi.InvalidFieldInCDB)
	}
	add("unknown opcode", []byte{0xC0, 0, 0, 0, 0, 0}, 0, scsi.InvalidOperationCode)
	add("unknown service action", []byte{0x9E, 0x1F}, 0, scsi.InvalidFieldInCDB)
	add("prefetch beyond", rw10(0x34, last+2, 0), 0, scsi.LBAOutOfRange)
	add("sync beyond", rw10(0x35, last, 2), 0, scsi.LBAOutOfRange)
	add("sync all", rw16(0x91, 0, 0), 0, 0)
	add("verify bytchk 2", with(rw10(0x2F, 0, 1), 1, 0x04), 512, scsi.InvalidFieldInCDB)
	add("caw too many", caw(last, 2), 2048, scsi.LBAOutOfRange)
	add("caw zero", caw(0, 0), 0, 0)
	add("write same zero", rw16(0x93, 0, 0), 512, scsi.InvalidFieldInCDB)
	add("write same anchor", with(rw16(0x93, 0, 1), 1, 0x10), 512, scsi.InvalidFieldInCDB)
	add("write same lbdata", with(rw16(0x93, 0, 1), 1, 0x02), 512, scsi.InvalidFieldInCDB)
	add("write same beyond", rw16(0x93, last, 2), 512, scsi.LBAOutOfRange)
	add("unmap anchor", []byte{0x42, 1, 0, 0, 0, 0, 0, 0, 0, 0}, 0, scsi.InvalidFieldInCDB)
	add("send diagnostic self test", []byte{0x1D, 0x04, 0, 0, 0, 0}, 0, 0)
	add("send diagnostic code", []byte{0x1D, 0x20, 0, 0, 0, 0}, 0, scsi.InvalidFieldInCDB)
	add("loej on fixed", []byte{0x1B, 0, 0, 0, 2, 0}, 0, scsi.InvalidFieldInCDB)
	add("stop", []byte{0x1B, 0, 0, 0, 0, 0}, 0, 0)
	onEach(t, 4*mib, baseConfig, func(t *testing.T, r *rig, _ *fake) {
		for _, c := range rows {
			t.Run(c.name, func(t *testing.T) {
				r := &rig{tb: t, nexus: r.nexus}
				if c.asc == 0 {
					r.good(c.cdb, make([]byte, c.out))
					return
				}
				r.bad(c.cdb, make([]byte, c.out), scsi.IllegalRequest, c.asc)
			})
		}
	})
}

func TestCompareAndWrite(t *testing.T) {
	onEach(t, mib, baseConfig, func(t *testing.T, r *rig, _ *fake) {
		r.good(rw10(0x2A, 4, 2), fill(1024, 1))
		r.good(caw(4, 2), append(fill(1024, 1), fill(1024, 2)...))
		want := fill(1024, 2)
		if !bytes.Equal(r.good(rw10(0x28, 4, 2), nil), want) {
			t.Fatal("not written")
		}
		cmpData := fill(1024, 2)
		cmpData[777] ^= 1
		got := r.bad(caw(4, 2), append(cmpData, fill(1024, 3)...), scsi.Miscompare, scsi.MiscompareDuringVerify)
		if got.sense[0] != 0xF0 || binary.BigEndian.Uint32(got.sense[3:]) != 777 {
			t.Errorf("INFORMATION in % x, want 777", got.sense)
		}
		if !bytes.Equal(r.good(rw10(0x28, 4, 2), nil), want) {
			t.Error("written in spite of the miscompare")
		}
		r.bad(caw(4, 2), fill(2000, 2), scsi.IllegalRequest, scsi.InvalidFieldInCDB)
	})
}

func TestVerifyAndORWrite(t *testing.T) {
	onEach(t, 4*mib, baseConfig, func(t *testing.T, r *rig, _ *fake) {
		const n = 600 // more than is done inline
		data := bytes.Repeat([]byte{1, 2, 4, 8}, n*128)
		r.good(with(rw10(0x2E, 8, n), 1, 0x02), data)
		r.good(rw10(0x2F, 8, n), nil)
		r.good(with(rw10(0x2F, 8, n), 1, 0x02), data)
		r.good(with(rw10(0x2F, 8, n), 1, 0x06), data[:512])
		wrong := bytes.Clone(data)
		wrong[len(wrong)-1] = 0
		r.bad(with(rw10(0x2F, 8, n), 1, 0x02), wrong, scsi.Miscompare, scsi.MiscompareDuringVerify)
		r.bad(with(rw10(0x2F, 8, n+1), 1, 0x06), data[:512], scsi.Miscompare, scsi.MiscompareDuringVerify)
		r.good(rw16(0x8B, 8, n), fill(n*512, 0x10))
		if want := bytes.Repeat([]byte{0x11, 0x12, 0x14, 0x18}, n*128); !bytes.Equal(want, r.good(rw10(0x28, 8, n), nil)) {
			t.Error("ORWRITE stored something else")
		}
	})
}

func TestWriteSame(t *testing.T) {
	onEach(t, 8*mib, baseConfig, func(t *testing.T, r *rig, b *fake) {
		block := bytes.Repeat([]byte{9, 8, 7, 6}, 128)
		r.good(rw16(0x93, 3, 9000), block) // several chunks, not aligned
		in := r.good(rw16(0x88, 2, 9002), nil)
		want := append(make([]byte, 512), bytes.Repeat(block, 9000)...)
		want = append(want, make([]byte, 512)...)
		if !bytes.Equal(in, want) {
			t.Fatal("WRITE SAME wrote something else")
		}
		r.good(with(rw16(0x93, 5, 100), 1, 0x09), nil) // UNMAP, NDOB
		r.good(with(rw10(0x41, 200, 2), 1, 0x08), make([]byte, 512))
		r.good(with(rw10(0x41, 205, 1), 1, 0x08), block)
		clear(want[3*512 : 103*512])
		clear(want[198*512 : 200*512])
		if !bytes.Equal(r.good(rw16(0x88, 2, 9002), nil), want) {
			t.Fatal("unmapped range reads wrong")
		}
		r.bad(rw10(0x41, 0, 1), block[:500], scsi.IllegalRequest, scsi.InvalidFieldInCDB)
	})
}

func TestUnmap(t *testing.T) {
	onEach(t, 8*mib, baseConfig, func(t *testing.T, r *rig, b *fake) {
		r.good(rw10(0x2A, 0, 100), fill(51200, 5))
		cdb, list := unmapCmd(1, 2, 50, 10, 0, 0)
		r.good(cdb, list)
		want := fill(51200, 5)
		clear(want[512:1536])
		clear(want[50*512 : 60*512])
		if !bytes.Equal(r.good(rw10(0x28, 0, 100), nil), want) {
			t.Error("unmapped something else")
		}
		r.good([]byte{0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil)
		r.good([]byte{0x42, 0, 0, 0, 0, 0, 0, 0, 8, 0}, make([]byte, 8))
		r.bad([]byte{0x42, 0, 0, 0, 0, 0, 0, 0, 7, 0}, make([]byte, 7), scsi.IllegalRequest, scsi.ParameterListLengthError)
		r.bad(cdb, list[:40], scsi.IllegalRequest, scsi.ParameterListLengthError)
		cdb, list = unmapCmd(0, 1, 16384, 1)
		r.bad(cdb, list, scsi.IllegalRequest, scsi.LBAOutOfRange)
		cdb, list = unmapCmd(1<<63, 1<<31)
		r.bad(cdb, list, scsi.IllegalRequest, scsi.LBAOutOfRange)
		cdb, list = unmapCmd(make([]uint64, 2*257)...)
		r.bad(cdb, list, scsi.IllegalRequest, scsi.InvalidFieldInParamList)
		if !bytes.Equal(r.good(rw10(0x28, 0, 100), nil), want) {
			t.Error("a bad parameter list unmapped something")
		}
	})
}

func TestGetLBAStatus(t *testing.T) {
	b := newFake(mib)
	r := newRig(t, baseConfig, b)
	r.good(rw10(0x2A, 10, 5), fill(2560, 1))
	cdb := rw16(0x9E, 2, 1000)
	cdb[1] = 0x12
	// With 512-byte extents each deallocated block is its own descriptor.
	in := r.good(cdb, nil)
	if n := binary.BigEndian.Uint32(in); int(n) != len(in)-4 {
		t.Errorf("PARAMETER DATA LENGTH %d of %d bytes", n, len(in))
	}
	next := uint64(2)
	for d := in[8:]; len(d) > 0; d = d[16:] {
		lba, n := binary.BigEndian.Uint64(d), binary.BigEndian.Uint32(d[8:])
		if lba != next || n == 0 {
			t.Fatalf("descriptor of LBA %d, %d blocks; want LBA %d", lba, n, next)
		}
		if mapped := lba == 10; mapped != (d[12] == 0) || mapped && n != 5 {
			t.Errorf("LBA %d, %d blocks: state %d", lba, n, d[12])
		}
		next += uint64(n)
	}
	cdb = rw16(0x9E, mib/512, 24)
	cdb[1] = 0x12
	r.bad(cdb, nil, scsi.IllegalRequest, scsi.LBAOutOfRange)
}

func TestFlags(t *testing.T) {
	for _, tt := range []struct {
		name string
		wce  bool
		cdb  []byte
		want []string
	}{
		{"cached", true, rw10(0x2A, 0, 1), []string{"write"}},
		{"fua", true, with(rw10(0x2A, 0, 1), 1, 8), []string{"write fua"}},
		{"write through", false, rw10(0x2A, 0, 1), []string{"write fua"}},
		{"fua read", true, with(rw10(0x28, 0, 1), 1, 8), []string{"flush", "read"}},
		{"fua read without cache", false, with(rw10(0x28, 0, 1), 1, 8), []string{"read"}},
		{"sync", true, rw10(0x35, 0, 0), []string{"flush"}},
		{"prefetch", true, rw10(0x34, 0, 0), nil},
		{"caw", false, caw(0, 1), []string{"read", "write fua"}},
		{"stop", true, []byte{0x1B, 0, 0, 0, 0, 0}, []string{"flush"}},
		{"stop without flush", true, []byte{0x1B, 0, 0, 0, 4, 0}, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := newFake(mib)
			cfg := baseConfig
			cfg.WriteCache = tt.wce
			newRig(t, cfg, b).good(tt.cdb, make([]byte, 1024))
			if diff := cmp.Diff(tt.want, b.log); diff != "" {
				t.Error(diff)
			}
		})
	}
}

func TestPrefetchConditionMet(t *testing.T) {
	b := newFake(mib)
	b.mapper = true
	if got := newRig(t, baseConfig, b).do(rw10(0x34, 0, 8), nil); got.status != scsi.ConditionMet {
		t.Errorf("got %v", got)
	}
}

// Bar D7: the table of backend errors, in both sense formats.
func TestBackendErrors(t *testing.T) {
	plain := errors.New("something else")
	list := func() (cdb, out []byte) { return unmapCmd(0, 1) }
	unmapCDB, unmapList := list()
	for _, tt := range []struct {
		err    error
		cdb    []byte
		out    []byte
		status scsi.Status
		key    scsi.SenseKey
		asc    scsi.ASC
	}{
		{luns.ErrMedium, rw10(0x28, 7, 1), nil, scsi.CheckCondition, scsi.MediumError, scsi.UnrecoveredReadError},
		{luns.ErrMedium, rw10(0x2A, 7, 1), fill(512, 1), scsi.CheckCondition, scsi.MediumError, scsi.WriteErr},
		{luns.ErrMedium, rw10(0x35, 7, 1), nil, scsi.CheckCondition, scsi.MediumError, scsi.WriteErr},
		{luns.ErrMedium, rw10(0x2F, 7, 1), nil, scsi.CheckCondition, scsi.MediumError, scsi.UnrecoveredReadError},
		{luns.ErrMedium, unmapCDB, unmapList, scsi.CheckCondition, scsi.MediumError, scsi.WriteErr},
		{luns.ErrNoSpace, rw10(0x2A, 7, 1), fill(512, 1), scsi.CheckCondition, scsi.DataProtect, scsi.SpaceAllocationFailed},
		{luns.ErrNoSpace, rw10(0x41, 7, 1), fill(512, 1), scsi.CheckCondition, scsi.DataProtect, scsi.SpaceAllocationFailed},
		{luns.ErrReadOnly, rw10(0x2A, 7, 1), fill(512, 1), scsi.CheckCondition, scsi.DataProtect, scsi.WriteProtected},
		{luns.ErrOffline, rw10(0x28, 7, 1), nil, scsi.CheckCondition, scsi.IllegalRequest, scsi.LUNotSupported},
		{luns.ErrClosed, rw10(0x2A, 7, 1), fill(512, 1), scsi.CheckCondition, scsi.IllegalRequest, scsi.LUNotSupported},
		{luns.ErrTransient, rw10(0x2A, 7, 1), fill(512, 1), scsi.Busy, 0, 0},
		{luns.ErrTransient, rw10(0x28, 7, 1), nil, scsi.Busy, 0, 0},
		{plain, rw10(0x28, 7, 1), nil, scsi.CheckCondition, scsi.HardwareError, scsi.InternalTargetFailure},
	} {
		for _, set := range []string{"plain", "trier"} {
			for _, dsense := range []byte{0, 4} {
				t.Run(fmt.Sprintf("%v/%02x/%s/%d", tt.err, tt.cdb[0], set, dsense), func(t *testing.T) {
					b := newFake(mib)
					backends[set](b)
					var reported []error
					cfg := baseConfig
					cfg.Report = func(e *scsi.Error) { reported = append(reported, e) }
					r := newRig(t, cfg, b)
					r.good(modeSelect6([]byte{0x0A, 0x0A, 2 | dsense, 0x10, 0, 0, 0, 0, 0, 0, 0, 0}))
					b.hook = func(string, int64, int64) error { return fmt.Errorf("disk: %w", tt.err) }
					got := r.do(tt.cdb, tt.out)
					b.hook = nil
					k, a := got.key()
					if got.status != tt.status || k != tt.key || a != tt.asc {
						t.Errorf("got %v, want %v %v %v", got, tt.status, tt.key, tt.asc)
					}
					if len(got.sense) > 0 && (got.sense[0]&0x7F == 0x72) != (dsense != 0) {
						t.Errorf("wrong sense format: % x", got.sense)
					}
					if len(reported) != 1 || !errors.Is(reported[0], tt.err) {
						t.Errorf("reported %v", reported)
					}
					if tt.key == scsi.MediumError && tt.cdb[8] == 1 && tt.cdb[0] != 0x42 {
						checkInformation(t, got.sense, 7)
					}
				})
			}
		}
	}
}

func checkInformation(t *testing.T, sense []byte, want uint64) {
	t.Helper()
	var got uint64
	if sense[0] == 0x72 {
		got = binary.BigEndian.Uint64(sense[12:])
	} else if sense[0]&0x80 != 0 {
		got = uint64(binary.BigEndian.Uint32(sense[3:]))
	}
	if got != want {
		t.Errorf("INFORMATION %d in % x, want %d", got, sense, want)
	}
}

func modeSelect6(page []byte) (cdb, list []byte) {
	list = append([]byte{0, 0, 0, 0}, page...)
	return []byte{0x15, 0x10, 0, 0, byte(len(list)), 0}, list
}

func TestReadOnly(t *testing.T) {
	for _, how := range []string{"config", "backend"} {
		t.Run(how, func(t *testing.T) {
			b := newFake(mib)
			cfg := baseConfig
			cfg.ReadOnly = how == "config"
			b.info.ReadOnly = how == "backend"
			r := newRig(t, cfg, b)
			cdb, list := unmapCmd(0, 1)
			for _, c := range []struct{ cdb, out []byte }{
				{rw10(0x2A, 0, 1), fill(512, 1)},
				{rw10(0x2E, 0, 1), fill(512, 1)},
				{rw10(0x41, 0, 1), fill(512, 1)},
				{rw16(0x8B, 0, 1), fill(512, 1)},
				{caw(0, 1), fill(1024, 1)},
				{cdb, list},
			} {
				r.bad(c.cdb, c.out, scsi.DataProtect, scsi.WriteProtected)
			}
			r.good(rw10(0x28, 0, 1), nil)
			if dsp := r.good([]byte{0x1A, 8, 0x3F, 0, 255, 0}, nil)[2]; dsp != 0x90 {
				t.Errorf("device specific parameter %#x", dsp)
			}
		})
	}
}
