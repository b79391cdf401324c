package scsi_test

import (
	"testing"

	"github.com/iserd/iserd/luns/scsi"
)

// hot is a READ or WRITE of 4 KiB as an engine runs it, again and again.
func hot(tb testing.TB, op byte) func() {
	b := newFake(64 * mib)
	b.mapper = true
	r := newRig(tb, baseConfig, b)
	c := &scsi.Command{Nexus: r.nexus}
	cdb := cdb16(rw10(op, 0, 8))
	out := fill(4096, 1)
	lba := uint32(0)
	return func() {
		lba = (lba + 8*1021) & (64*mib/512 - 1) &^ 7
		cdb[2], cdb[3], cdb[4], cdb[5] = byte(lba>>24), byte(lba>>16), byte(lba>>8), byte(lba)
		c.Reset()
		c.CDB = cdb
		if !c.Decode() {
			tb.Fatal(c.Status)
		}
		if op == 0x2A {
			c.Out = out
		}
		if !c.TryExec() || c.Status != scsi.Good {
			tb.Fatal("not inline")
		}
		c.Release()
	}
}

func TestHotPathAllocatesNothing(t *testing.T) {
	for name, op := range map[string]byte{"READ(10)": 0x28, "WRITE(10)": 0x2A} {
		t.Run(name, func(t *testing.T) {
			if n := testing.AllocsPerRun(1000, hot(t, op)); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
	t.Run("failing READ(10)", func(t *testing.T) {
		r := newRig(t, baseConfig, newFake(mib))
		c := &scsi.Command{Nexus: r.nexus, CDB: cdb16(rw10(0x28, 1<<31, 1))}
		if n := testing.AllocsPerRun(1000, func() { c.Decode() }); n != 0 {
			t.Errorf("%v allocations", n)
		}
	})
}

func BenchmarkRead4K(b *testing.B)  { benchmarkHot(b, 0x28) }
func BenchmarkWrite4K(b *testing.B) { benchmarkHot(b, 0x2A) }

func benchmarkHot(b *testing.B, op byte) {
	f := hot(b, op)
	b.ReportAllocs()
	b.SetBytes(4096)
	for b.Loop() {
		f()
	}
}

// BenchmarkSubmit is a READ through the workers and back.
func BenchmarkSubmit(b *testing.B) {
	r := newRig(b, baseConfig, newFake(mib))
	done := make(chan struct{}, 1)
	c := &scsi.Command{Nexus: r.nexus, Done: func(*scsi.Command) { done <- struct{}{} }}
	cdb, buf := cdb16(rw10(0x28, 8, 8)), make([]byte, 4096)
	b.ReportAllocs()
	for b.Loop() {
		c.Reset()
		c.CDB = cdb
		c.Decode()
		c.Buf = buf
		c.Submit()
		<-done
		c.Release()
	}
}
