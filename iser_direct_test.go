package iserd_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/pdu"
)

// directRig is a memory LUN over a device that pages on demand, or that pins.
type directRig struct {
	prov   *frail
	disk   *memory.Backend
	srv    *iserd.Server
	target *iserd.Target
	addr   netip.AddrPort
}

func newDirectRig(t *testing.T, pins bool, o memory.Options) *directRig {
	t.Helper()
	d := &directRig{prov: newFrail(t)}
	d.prov.name = "adapter" // in software, WRITEs do not go direct
	d.prov.caps = func(c *verbs.Caps) { c.OnDemandPaging = !pins }
	var err error
	if d.disk, err = memory.New(o); err != nil {
		t.Fatal(err)
	}
	d.prov.watch(d.disk.Memory())
	if d.srv, err = iserd.NewServer(iserd.WithFaultInjection()); err != nil {
		t.Fatal(err)
	}
	d.target, d.addr = serveDisk(t, d.srv, d.prov, d.disk)
	return d
}

func (d *directRig) login(t *testing.T) *initiator.Session {
	t.Helper()
	s := connectISER(t, d.addr, rdma.Options{Invalidate: true}, nil)
	ready(t, s)
	return s
}

// until repeats what may have to be copied the first times.
func until(t *testing.T, what string, done func() bool) {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); !done(); {
		if time.Now().After(deadline) {
			t.Fatal(what)
		}
	}
}

// READs and WRITEs go straight from and to the memory of the logical unit: at once
// where the device pages on demand, else where all of a chunk's pages are there.
func TestISERDirect(t *testing.T) {
	for _, pins := range []bool{false, true} {
		t.Run(fmt.Sprintf("pins=%v", pins), func(t *testing.T) {
			d := newDirectRig(t, pins, memory.Options{Size: 16 << 20})
			s := d.login(t)
			for lba := uint32(0); lba < 16<<20/512; lba += 1024 {
				roundTrip(t, s, lba, 1024) // all pages are there now
			}
			until(t, "data is copied still", func() bool {
				roundTrip(t, s, 4096-512, 1024) // in two chunks
				reads, _ := d.prov.seen(verbs.OpRead)
				writes, _ := d.prov.seen(verbs.OpWrite)
				return reads > 2 && writes > 2
			})
			// What is too short for it, and what is too long.
			roundTrip(t, s, 4095, 2)
			roundTrip(t, s, 0, 16<<20/512)
		})
	}
}

// An adapter that takes no data inline serves all the same.
func TestISERDirectWithoutInline(t *testing.T) {
	d := newDirectRig(t, false, memory.Options{Size: 16 << 20})
	d.prov.fails("Inline", 0)
	roundTrip(t, d.login(t), 0, 1024)
	if !d.prov.failed() {
		t.Error("nothing was asked for inline")
	}
}

// A device that pins does not make a sparse logical unit dense.
func TestISERDirectSparse(t *testing.T) {
	d := newDirectRig(t, true, memory.Options{Size: 64 << 20})
	s := d.login(t)
	roundTrip(t, s, 0, 1024)
	for range 40 {
		for lba := uint32(0); lba < 64<<20/512; lba += 1024 {
			if r, err := s.Exec(t.Context(), 0, cdb10(read10, lba, 1024), nil, 1024*512); err != nil || r.Status != 0 {
				t.Fatal(err, r)
			}
		}
	}
	var used int64
	for e, err := range d.disk.Extents(t.Context(), 0, 64<<20) {
		if err != nil {
			t.Fatal(err)
		}
		if e.State == luns.Mapped {
			used += e.Len
		}
	}
	if _, regions := d.prov.seen(verbs.OpRead); regions != 0 || used > 1<<20 {
		t.Errorf("%d bytes are in use, %d regions registered; 512 KiB were written", used, regions)
	}
}

// With Pin all of it is there, and known to the device, from the first use on.
func TestISERDirectPin(t *testing.T) {
	d := newDirectRig(t, true, memory.Options{Size: 16 << 20, Pin: true})
	s := d.login(t)
	roundTrip(t, s, 0, 1024)
	until(t, "not all is registered", func() bool {
		_, regions := d.prov.seen(verbs.OpRead)
		return regions == 8
	})
	unmapBlocks(t, s, 0, 1024)
	if got := readBlocks(t, s, 0, 1024); !bytes.Equal(got, make([]byte, len(got))) {
		t.Error("what is unmapped is not zero")
	}
	if _, regions := d.prov.seen(verbs.OpRead); regions != 8 {
		t.Errorf("%d regions of 8 are left after UNMAP", regions)
	}
}

// WRITEs, UNMAPs and READs at random, of several sessions in parts of their own that
// lie in the same chunks: every READ finds what was written last.
func TestISERDirectUnmap(t *testing.T) {
	const blocks, part = 16 << 20 / 512, 1024
	d := newDirectRig(t, true, memory.Options{Size: 16 << 20})
	first := d.login(t)
	for lba := uint32(0); lba < blocks; lba += part {
		roundTrip(t, first, lba, part)
	}
	var wg sync.WaitGroup
	for n := range 4 {
		s := d.login(t)
		rng := rand.New(rand.NewPCG(uint64(n), 7))
		wg.Go(func() {
			for range 60 {
				// 4 parts in a chunk of 2 MiB: session n has the n-th of each.
				lba := uint32(4*rng.IntN(blocks/part/4)+n) * part
				want := bytes.Repeat([]byte{byte(rng.Uint32()), byte(n), 1}, part*512)[:part*512]
				for range 1 + rng.IntN(4) {
					writeBlocks(t, s, lba, want)
				}
				if rng.IntN(2) == 0 {
					from := rng.IntN(part / 2)
					unmapBlocks(t, s, lba+uint32(from), part/4)
					clear(want[from*512:][:part/4*512])
				}
				for range 1 + rng.IntN(4) {
					if got := readBlocks(t, s, lba, part); !bytes.Equal(got, want) {
						t.Errorf("session %d, block %d: other data", n, lba)
						return
					}
				}
			}
		})
	}
	wg.Wait()
	reads, _ := d.prov.seen(verbs.OpRead)
	writes, _ := d.prov.seen(verbs.OpWrite)
	if reads == 0 || writes == 0 {
		t.Errorf("%d RDMA Reads and %d RDMA Writes were direct", reads, writes)
	}
}

// A logical unit that grows is reached where it has grown, too.
func TestISERDirectResize(t *testing.T) {
	d := newDirectRig(t, false, memory.Options{Size: 8 << 20, MaxSize: 16 << 20})
	s := d.login(t)
	roundTrip(t, s, 0, 1024)
	if err := d.target.ResizeTo(t.Context(), 0, 16<<20); err != nil {
		t.Fatal(err)
	}
	d.prov.watch(d.disk.Memory())
	ready(t, s)
	roundTrip(t, s, 24<<10, 1024)
	if n, _ := d.prov.seen(verbs.OpRead); n == 0 {
		t.Error("data was copied")
	}
}

// Nothing of a WRITE that goes straight to the logical unit lands after its abort, or
// the end of its session, was answered. What has landed before may stay.
func TestISERDirectAbort(t *testing.T) {
	for _, pins := range []bool{false, true} {
		d := newDirectRig(t, pins, memory.Options{Size: 1 << 20, Pin: true})
		s := d.login(t)
		until(t, "data is copied still", func() bool {
			roundTrip(t, s, 0, 2048)
			n, _ := d.prov.seen(verbs.OpRead)
			return n > 0
		})
		for i := range 20 {
			r := openRaw(t, d.addr)
			r.login()
			r.attentions()
			mem, stag := r.mem(1<<20, byte(i))
			refCmdSN := r.cmdSN
			r.write(mem, stag, 0)
			for range i % 6 {
				r.poll(time.Duration(i) * 5 * time.Microsecond)
			}
			p := pdu.TaskManagementRequest{
				Immediate: true, Function: pdu.AbortTask, InitiatorTaskTag: 0x8888,
				ReferencedTaskTag: 0x100 + refCmdSN + 1, CmdSN: r.cmdSN, RefCmdSN: refCmdSN,
			}
			var h pdu.BHS
			p.Encode(&h)
			if err := r.c.SendPDU(&iser.Header{}, &h, nil, nil); err != nil {
				t.Fatal(err)
			}
			answered := false
			for !answered { // the write may have been faster
				answered = r.next().BHS.Opcode() == pdu.OpTaskManagementResponse
			}
			before := slices.Clone(d.disk.Memory())
			for j := range mem {
				mem[j] = 0xee
			}
			r.poll(5 * time.Millisecond)
			if !bytes.Equal(before, d.disk.Memory()) {
				t.Errorf("round %d: data landed after the abort was answered", i)
			}
			r.c.Close()
		}
	}
}

// An initiator that does not answer the RDMA Reads of its WRITE does not keep the
// logical unit from being taken away: its connection ends.
func TestISERDirectStalled(t *testing.T) {
	d := newDirectRig(t, false, memory.Options{Size: 1 << 20})
	r := openRaw(t, d.addr)
	r.login()
	r.attentions()
	mem, stag := r.mem(1<<20, 1)
	r.write(mem, stag, 0)
	r.poll(0) // sends it, and answers nothing
	until(t, "no RDMA Read", func() bool {
		time.Sleep(time.Millisecond)
		n, _ := d.prov.seen(verbs.OpRead)
		return n > 0
	})
	begun := time.Now()
	if err := d.target.DetachLUN(t.Context(), 0); err != nil {
		t.Error(err)
	}
	t.Logf("taken away after %v", time.Since(begun))
	r.c.Close()
}

func writeBlocks(t *testing.T, s *initiator.Session, lba uint32, data []byte) {
	t.Helper()
	if r, err := s.Exec(t.Context(), 0, cdb10(write10, lba, uint16(len(data)/512)), data, 0); err != nil || r.Status != 0 {
		t.Errorf("WRITE: %v %+v", err, r)
	}
}

func readBlocks(t *testing.T, s *initiator.Session, lba uint32, n uint16) []byte {
	t.Helper()
	r, err := s.Exec(t.Context(), 0, cdb10(read10, lba, n), nil, int(n)*512)
	if err != nil || r.Status != 0 {
		t.Errorf("READ: %v %+v", err, r)
	}
	return r.Data
}

func unmapBlocks(t *testing.T, s *initiator.Session, lba, n uint32) {
	t.Helper()
	list := make([]byte, 24) // one descriptor, SBC-4 5.35
	list[1], list[3] = 22, 16
	list[12], list[13], list[14], list[15] = byte(lba>>24), byte(lba>>16), byte(lba>>8), byte(lba)
	list[18], list[19] = byte(n>>8), byte(n)
	cdb := make([]byte, 10)
	cdb[0], cdb[8] = 0x42, byte(len(list))
	if r, err := s.Exec(t.Context(), 0, cdb, list, 0); err != nil || r.Status != 0 {
		t.Errorf("UNMAP: %v %+v", err, r)
	}
}
