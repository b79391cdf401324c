package bench

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/pdu"
)

// grace is how long commands in flight may take after the end of the run.
const grace = 30 * time.Second

// engine is one run.
type engine struct {
	o       Options
	luns    []lunInfo
	workers []*worker
	stopped atomic.Bool
	start   time.Time // zero of all durations of the run

	first, last sample // around the measured time
}

// lunInfo is what READ CAPACITY says.
type lunInfo struct {
	number    uint16
	blockSize int
	blocks    uint64
}

// sample is the state of all counters at one moment.
type sample struct {
	at         time.Duration
	ios, bytes uint64
	server     time.Duration
	own        time.Duration
}

// Run does the measurement that o describes. It returns an error when the
// target cannot be used, an I/O fails, or data is not what was written (a
// *VerifyError).
func Run(ctx context.Context, o Options) (*Report, error) {
	if len(o.LUNs) == 0 && o.URL.HasLUN {
		o.LUNs = []uint16{o.URL.LUN}
	}
	if err := o.validate(); err != nil {
		return nil, err
	}
	if o.PID != 0 {
		if _, err := processCPU(o.PID); err != nil {
			return nil, err
		}
	}
	o.Login = loginOptions(&o)
	e := &engine{o: o}
	if err := e.probe(ctx); err != nil {
		return nil, err
	}
	if err := e.connect(ctx); err != nil {
		e.close()
		return nil, err
	}
	defer e.close()
	if err := e.measure(ctx); err != nil {
		return nil, err
	}
	return e.report(), nil
}

// loginOptions merges the URL's options into o.Login.
func loginOptions(o *Options) initiator.Options {
	l, u := o.Login, o.URL.Options()
	l.TargetName = u.TargetName
	if l.CHAP.User == "" {
		l.CHAP = u.CHAP
	}
	if l.HeaderDigest == "" {
		l.HeaderDigest = u.HeaderDigest
	}
	if l.DataDigest == "" {
		l.DataDigest = u.DataDigest
	}
	if l.InitiatorName == "" {
		l.InitiatorName = "iqn.2026-11.io.github.iserd:bench"
	}
	if u := &o.URL; u.ISER {
		l.HeaderDigest, l.DataDigest = "None", "None"
		l.Extra = append(l.Extra, rdma.Keys()...)
	}
	if l.MaxOutstandingR2T == 0 {
		l.MaxOutstandingR2T = 8
	}
	return l
}

// dial connects over TCP, or over RDMA as the URL says.
func (e *engine) dial(ctx context.Context) (*initiator.Conn, error) {
	if e.o.URL.ISER {
		return rdma.DialAny(ctx, e.o.URL.Address, rdma.Options{Spin: e.o.Poll})
	}
	return initiator.Dial(ctx, e.o.URL.Address)
}

// probe asks for the capacity of each LUN in a session of its own.
func (e *engine) probe(ctx context.Context) error {
	c, err := e.dial(ctx)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	s, err := initiator.Login(ctx, c, e.o.Login)
	if err != nil {
		return fmt.Errorf("bench: %w", err)
	}
	for _, n := range e.o.LUNs {
		info, err := readCapacity(ctx, s, n)
		if err != nil {
			_ = s.Close()
			return fmt.Errorf("bench: LUN %d: %w", n, err)
		}
		e.luns = append(e.luns, info)
	}
	return s.Logout(ctx)
}

// readCapacity asks READ CAPACITY(10), and (16) for large LUNs (SBC-4 5.20,
// 5.21), past unit attentions.
func readCapacity(ctx context.Context, s *initiator.Session, n uint16) (lunInfo, error) {
	const unitAttention = 6
	info := lunInfo{number: n}
	for try := 0; ; try++ {
		r, err := s.Exec(ctx, pdu.LUNOf(n), []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 8)
		if err != nil {
			return info, err
		}
		if key, _, _, _ := initiator.DecodeSense(r.Sense); key == unitAttention && try < 16 {
			continue
		}
		if err := r.Err(); err != nil {
			return info, err
		}
		if len(r.Data) < 8 {
			return info, errors.New("short READ CAPACITY data")
		}
		info.blocks = uint64(binary.BigEndian.Uint32(r.Data)) + 1
		info.blockSize = int(binary.BigEndian.Uint32(r.Data[4:]))
		break
	}
	if info.blocks <= math.MaxUint32 {
		return info, nil
	}
	cdb := make([]byte, 16)
	cdb[0], cdb[1], cdb[13] = 0x9e, 0x10, 32
	r, err := s.Exec(ctx, pdu.LUNOf(n), cdb, nil, 32)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return info, err
	}
	if len(r.Data) < 12 {
		return info, errors.New("short READ CAPACITY data")
	}
	info.blocks = binary.BigEndian.Uint64(r.Data) + 1
	return info, nil
}

// regions cuts the LUNs for worker i. Plain runs share the whole range, so that
// sessions meet as they do in life; sequential ones start at different places.
func (e *engine) regions(i int) ([]region, error) {
	var regions []region
	for _, l := range e.luns {
		if l.blockSize < 512 || e.o.BlockSize%l.blockSize != 0 {
			return nil, fmt.Errorf("bench: block size %d is no multiple of LUN %d's %d", e.o.BlockSize, l.number, l.blockSize)
		}
		r := region{lun: pdu.LUNOf(l.number), blockSize: l.blockSize, perIO: uint64(e.o.BlockSize / l.blockSize)}
		size := int64(min(l.blocks, math.MaxInt64/uint64(l.blockSize))) * int64(l.blockSize)
		if e.o.Offset >= size || e.o.Offset%int64(l.blockSize) != 0 {
			return nil, fmt.Errorf("bench: offset %d does not fit LUN %d of %d bytes", e.o.Offset, l.number, size)
		}
		size -= e.o.Offset
		if e.o.Size > 0 {
			size = min(size, e.o.Size)
		}
		r.firstLBA = uint64(e.o.Offset / int64(l.blockSize))
		r.count = uint64(size) / uint64(e.o.BlockSize)
		share := r.count / uint64(e.o.Sessions)
		if e.o.Verify {
			r.firstLBA += uint64(i) * share * r.perIO
			r.count = share
			if share > 1<<28 {
				return nil, errors.New("bench: verify mode wants a smaller range; see --size")
			}
			r.generation, r.busy = make([]uint32, share), make([]bool, share)
		} else {
			r.next = uint64(i) * share
		}
		if r.count == 0 {
			return nil, fmt.Errorf("bench: LUN %d is too small for %d sessions of %d-byte I/Os", l.number, e.o.Sessions, e.o.BlockSize)
		}
		regions = append(regions, r)
	}
	return regions, nil
}

// connect logs all sessions in.
func (e *engine) connect(ctx context.Context) error {
	e.start = time.Now()
	for i := range e.o.Sessions {
		w, err := e.newWorker(i)
		if err != nil {
			return err
		}
		e.workers = append(e.workers, w)
		if w.pipe, err = e.pipeline(ctx); err == nil {
			err = w.allocate()
		}
		if err != nil {
			return fmt.Errorf("bench: session %d: %w", i, err)
		}
		if err := w.pipe.Run(ctx, w); err != nil { // phasePrepare
			return fmt.Errorf("bench: session %d: %w", i, err)
		}
	}
	return nil
}

// pipeline logs a session in, over TCP or over RDMA as the URL says.
func (e *engine) pipeline(ctx context.Context) (pipeline, error) {
	cfg := initiator.PipelineConfig{Depth: e.o.QueueDepth, Poll: e.o.Poll, Origin: e.start}
	if e.o.URL.ISER {
		// The data of the commands, and messages.
		memory := int64(e.o.QueueDepth+1)*int64(e.o.BlockSize)*2 + 32<<20
		c, err := rdma.OpenAny(ctx, e.o.URL.Address, rdma.Options{Spin: e.o.Poll, Memory: memory})
		if err != nil {
			return nil, err
		}
		return asPipeline(rdma.NewPipeline(ctx, c, e.o.Login, cfg))
	}
	c, err := initiator.Dial(ctx, e.o.URL.Address)
	if err != nil {
		return nil, err
	}
	r, err := initiator.Negotiate(ctx, c, e.o.Login)
	if err != nil {
		return nil, errors.Join(err, c.Close())
	}
	return asPipeline(initiator.NewPipeline(c, r, cfg))
}

// asPipeline keeps a nil pointer from becoming a pipeline.
func asPipeline[P pipeline](p P, err error) (pipeline, error) {
	if err != nil {
		return nil, err
	}
	return p, nil
}

func (e *engine) newWorker(i int) (*worker, error) {
	w := &worker{
		o: &e.o, rng: rand.NewPCG(e.o.Seed, uint64(i)), limit: math.MaxUint64,
		stopped: &e.stopped, begin: 0, end: math.MaxInt64,
	}
	var err error
	if w.regions, err = e.regions(i); err != nil {
		return nil, err
	}
	if e.o.Count > 0 { // the remainder goes to the first sessions
		n := uint64(e.o.Sessions)
		w.limit = e.o.Count / n
		if uint64(i) < e.o.Count%n {
			w.limit++
		}
	}
	return w, nil
}

// allocate takes the memory for the data of commands from the pipeline.
func (w *worker) allocate() (err error) {
	if w.o.Verify {
		for range w.o.QueueDepth {
			b, err := w.pipe.Memory(w.o.BlockSize)
			if err != nil {
				return err
			}
			w.buffers = append(w.buffers, b)
		}
		return nil
	}
	if w.payload, err = w.pipe.Memory(w.o.BlockSize); err != nil {
		return err
	}
	for j := 0; j+8 <= len(w.payload); j += 8 { // no target shall take it for zeroes
		binary.LittleEndian.PutUint64(w.payload[j:], w.rng.Uint64())
	}
	return nil
}

func (e *engine) close() {
	for _, w := range e.workers {
		if w.pipe != nil {
			_ = w.pipe.Close()
		}
	}
}

// measure runs all sessions and then the read-back pass.
func (e *engine) measure(ctx context.Context) error {
	timed := e.o.Count == 0
	ramp := e.o.Ramp
	if !timed {
		ramp = 0
	}
	base := time.Since(e.start)
	parent := ctx
	for _, w := range e.workers {
		w.phase, w.turn, w.issued = phaseMeasure, 0, 0
		w.begin = base + ramp
		if timed {
			w.end = w.begin + e.o.Duration
		}
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	clockDone := make(chan struct{})
	clockStop := make(chan struct{})
	go func() {
		defer close(clockDone)
		e.clock(clockStop, cancel, base+ramp)
	}()
	err := e.runAll(ctx)
	close(clockStop)
	<-clockDone
	if err != nil || !e.o.Verify || !e.o.ReadBack || !e.o.Mode.Writes() {
		return err
	}
	for _, w := range e.workers {
		w.phase, w.turn, w.readBackAt = phaseReadBack, 0, 0
	}
	return e.runAll(parent)
}

// runAll runs every worker's pipeline to its end. The first error ends the
// others.
func (e *engine) runAll(ctx context.Context) error {
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	var wg sync.WaitGroup
	for i, w := range e.workers {
		wg.Go(func() {
			if err := w.pipe.Run(ctx, w); err != nil {
				cancel(fmt.Errorf("session %d: %w", i, err))
			}
		})
	}
	wg.Wait()
	return context.Cause(ctx)
}

// clock takes the samples at both ends of the measured time, stops the workers
// and shows progress. It ends with stop.
func (e *engine) clock(stop <-chan struct{}, cancel context.CancelCauseFunc, begin time.Duration) {
	rampUp := time.NewTimer(begin - time.Since(e.start))
	defer rampUp.Stop()
	second := time.NewTicker(time.Second)
	defer second.Stop()
	var end, late <-chan time.Time
	previous := e.sample()
	e.first = previous
	for {
		select {
		case <-rampUp.C:
			e.first = e.sample()
			if e.o.Count == 0 {
				end = time.After(e.o.Duration)
			}
		case <-end:
			e.last = e.sample()
			e.stopped.Store(true)
			late = time.After(grace)
		case <-late:
			cancel(fmt.Errorf("bench: commands are not answered within %v", grace))
		case <-second.C:
			previous = e.progress(previous)
		case <-stop:
			if e.last.at == 0 {
				e.last = e.sample()
			}
			return
		}
	}
}

func (e *engine) sample() sample {
	s := sample{at: time.Since(e.start), own: ownCPU()}
	for _, w := range e.workers {
		s.ios += w.done.Load()
		s.bytes += w.bytes.Load()
	}
	if e.o.PID != 0 {
		s.server, _ = processCPU(e.o.PID) // gone: shows as no CPU time
	}
	return s
}

// progress prints what happened since the previous sample.
func (e *engine) progress(previous sample) sample {
	now := e.sample()
	if e.o.Progress == nil {
		return now
	}
	d := (now.at - previous.at).Seconds()
	_, _ = fmt.Fprintf(e.o.Progress, "%4.0f s  %9.0f IOPS  %8.1f MiB/s\n", now.at.Seconds(),
		float64(now.ios-previous.ios)/d, float64(now.bytes-previous.bytes)/d/(1<<20))
	return now
}
