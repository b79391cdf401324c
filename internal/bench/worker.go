package bench

import (
	"context"
	"encoding/binary"
	"fmt"
	"math"
	"math/rand/v2"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// region is the part of a LUN that a worker uses, in I/O blocks.
type region struct {
	lun       pdu.LUN
	blockSize int    // of the LUN, bytes
	perIO     uint64 // logical blocks per I/O
	firstLBA  uint64
	count     uint64 // I/O blocks
	next      uint64 // sequential position

	// Verify mode: what was written last, and which I/O blocks are in flight
	// (two I/Os to one place at a time would have no defined outcome).
	generation []uint32
	busy       []bool
}

// pipeline keeps commands in flight: initiator.Pipeline over TCP, that of
// initiator/iser over RDMA.
type pipeline interface {
	Run(ctx context.Context, w initiator.Workload) error
	InFlight() int
	Params() login.Params
	// Memory returns n bytes for the data of commands.
	Memory(n int) ([]byte, error)
	Close() error
}

// worker is the workload of one session.
type worker struct {
	o       *Options
	pipe    pipeline
	regions []region
	turn    int // round robin over regions
	rng     *rand.PCG

	payload []byte   // of plain writes, shared
	buffers [][]byte // verify mode: one per slot

	phase      phase
	readBackAt uint64
	issued     uint64
	limit      uint64 // of issued
	begin, end time.Duration
	stopped    *atomic.Bool

	read, write stats
	done        atomic.Uint64 // all I/Os ever, for progress and CPU accounting
	bytes       atomic.Uint64
	unwritten   uint64 // reads that verify mode could not check
	checked     uint64

	_ [64]byte // keeps the atomics of two workers on different cache lines
}

// stats are the measured I/Os of one direction.
type stats struct {
	bytes uint64
	lat   Histogram
}

type phase uint8

const (
	phasePrepare phase = iota // TEST UNIT READY until unit attentions are gone
	phaseMeasure
	phaseReadBack
)

const (
	opTestUnitReady = 0x00
	opRead10        = 0x28
	opWrite10       = 0x2a
	opRead16        = 0x88
	opWrite16       = 0x8a
)

// In IO.User: the region, the I/O block, the generation written.
const (
	userRegionShift = 48
	userBlockMask   = 1<<userRegionShift - 1
)

// Next implements initiator.Workload.
func (w *worker) Next(io *initiator.IO) bool {
	switch w.phase {
	case phasePrepare:
		return w.nextPrepare(io)
	case phaseReadBack:
		return w.nextReadBack(io)
	default:
		return w.nextMeasure(io)
	}
}

// nextPrepare sends one TEST UNIT READY per LUN, one at a time.
func (w *worker) nextPrepare(io *initiator.IO) bool {
	if w.turn == len(w.regions) || w.pipe.InFlight() > 0 {
		return false
	}
	io.LUN, io.CDB, io.Write, io.Length, io.Data = w.regions[w.turn].lun, [16]byte{opTestUnitReady}, false, 0, nil
	return true
}

func (w *worker) nextMeasure(io *initiator.IO) bool {
	if w.issued >= w.limit || w.stopped.Load() {
		return false
	}
	if w.turn++; w.turn >= len(w.regions) {
		w.turn = 0
	}
	r := &w.regions[w.turn]
	block, ok := w.pick(r)
	if !ok {
		return false
	}
	w.issued++
	write := false
	if percent := w.o.readPercent(); percent == 0 {
		write = true
	} else if percent < 100 {
		write = w.rng.Uint64()%100 >= uint64(percent)
	}
	w.set(io, w.turn, block, write)
	return true
}

// pick chooses the next I/O block.
func (w *worker) pick(r *region) (uint64, bool) {
	var block uint64
	if w.o.Mode.random() {
		block = w.rng.Uint64() % r.count
	} else {
		block = r.next
		if r.next++; r.next == r.count {
			r.next = 0
		}
	}
	if r.busy == nil {
		return block, true
	}
	for range r.busy {
		if !r.busy[block] {
			return block, true
		}
		if block++; block == r.count {
			block = 0
		}
	}
	return 0, false // all are in flight
}

// set fills io for an I/O block.
func (w *worker) set(io *initiator.IO, ri int, block uint64, write bool) {
	r := &w.regions[ri]
	lba := r.firstLBA + block*r.perIO
	io.LUN, io.Write, io.Length, io.Data = r.lun, write, w.o.BlockSize, nil
	io.User = uint64(ri)<<userRegionShift | block
	io.CDB = rwCDB(write, lba, uint32(r.perIO))
	if r.busy != nil {
		r.busy[block] = true
		io.Data = w.buffers[io.Slot]
		if write {
			fillPattern(io.Data, r.blockSize, w.o.Seed, lba, r.generation[block]+1)
		}
	} else if write {
		io.Data = w.payload
	}
}

// rwCDB returns READ or WRITE in the 10-byte form where it fits (SBC-4 5.13,
// 5.40), else in the 16-byte form (5.15, 5.42).
func rwCDB(write bool, lba uint64, blocks uint32) (cdb [16]byte) {
	if lba+uint64(blocks) <= math.MaxUint32 && blocks <= math.MaxUint16 {
		cdb[0] = opRead10
		if write {
			cdb[0] = opWrite10
		}
		binary.BigEndian.PutUint32(cdb[2:], uint32(lba))
		binary.BigEndian.PutUint16(cdb[7:], uint16(blocks))
		return cdb
	}
	cdb[0] = opRead16
	if write {
		cdb[0] = opWrite16
	}
	binary.BigEndian.PutUint64(cdb[2:], lba)
	binary.BigEndian.PutUint32(cdb[10:], blocks)
	return cdb
}

// nextReadBack reads everything that was written, once.
func (w *worker) nextReadBack(io *initiator.IO) bool {
	for w.turn < len(w.regions) {
		r := &w.regions[w.turn]
		for w.readBackAt < r.count && r.generation[w.readBackAt] == 0 {
			w.readBackAt++
		}
		if w.readBackAt < r.count {
			w.set(io, w.turn, w.readBackAt, false)
			w.readBackAt++
			return true
		}
		w.turn++
		w.readBackAt = 0
	}
	return false
}

// Done implements initiator.Workload.
func (w *worker) Done(io *initiator.IO, now time.Duration) error {
	if w.phase == phasePrepare {
		return w.donePrepare(io)
	}
	if err := io.Err(); err != nil {
		op := "read"
		if io.Write {
			op = "write"
		}
		return fmt.Errorf("bench: %s of LUN %v, I/O block %d: %w", op, io.LUN, io.User&userBlockMask, err)
	}
	if w.buffers != nil {
		if err := w.check(io); err != nil {
			return err
		}
	}
	w.done.Add(1)
	w.bytes.Add(uint64(io.Length))
	if w.phase != phaseMeasure || now < w.begin || now >= w.end {
		return nil
	}
	s := &w.read
	if io.Write {
		s = &w.write
	}
	s.bytes += uint64(io.Length)
	s.lat.Add(now - io.Issued)
	return nil
}

// donePrepare goes on to the next LUN when this one is ready. A unit attention
// is what a new I_T nexus gets first (SAM-5 5.14).
func (w *worker) donePrepare(io *initiator.IO) error {
	err := io.Err()
	if err == nil {
		w.turn++
		w.issued = 0
		return nil
	}
	key, _, _, _ := initiator.DecodeSense(io.Sense)
	const unitAttention = 6
	if w.issued++; key != unitAttention || w.issued > 16 {
		return fmt.Errorf("bench: LUN %v is not ready: %w", io.LUN, err)
	}
	return nil
}

// check does verify mode's part of a completed I/O.
func (w *worker) check(io *initiator.IO) error {
	r, block := &w.regions[io.User>>userRegionShift], io.User&userBlockMask
	r.busy[block] = false
	if io.Write {
		r.generation[block]++
		return nil
	}
	generation := r.generation[block]
	if generation == 0 && w.o.Mode.Writes() { // not written by this run yet
		w.unwritten++
		return nil
	}
	lba := r.firstLBA + block*r.perIO
	if err := checkPattern(io.Data, r.blockSize, w.o.Seed, lba, generation); err != nil {
		return &VerifyError{LUN: r.lun, Err: err}
	}
	w.checked++
	return nil
}

// VerifyError is data that is not what was written.
type VerifyError struct {
	LUN pdu.LUN
	Err error
}

// Error says what is wrong where.
func (e *VerifyError) Error() string {
	return fmt.Sprintf("bench: verify: LUN %v, %v", e.LUN, e.Err)
}

// Unwrap returns Err.
func (e *VerifyError) Unwrap() error { return e.Err }
