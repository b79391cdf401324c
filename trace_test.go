package iserd_test

import (
	"bytes"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/luns/filter"
	"github.com/iserd/iserd/luns/filter/fault"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/pdu"
)

// tracing is a trace under way.
type tracing struct {
	t      *testing.T
	cancel func()
	ended  chan error

	mu     sync.Mutex
	seen   []iserd.TracedCommand
	missed uint64
}

// traced begins a trace; it is there when traced returns.
func traced(t *testing.T, srv *iserd.Server, o iserd.TraceOptions) *tracing {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	x := &tracing{t: t, cancel: cancel, ended: make(chan error, 1)}
	begun := make(chan struct{}, 1)
	go func() {
		x.ended <- srv.Trace(ctx, o, func(c *iserd.TracedCommand, missed uint64) error {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.missed += missed
			if c != nil {
				x.seen = append(x.seen, *c)
			}
			select {
			case begun <- struct{}{}:
			default:
			}
			return nil
		})
	}()
	<-begun
	return x
}

// wait waits for n commands, shown or not.
func (x *tracing) wait(n int) []iserd.TracedCommand {
	x.t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		x.mu.Lock()
		seen, all := slices.Clone(x.seen), len(x.seen)+int(x.missed)
		x.mu.Unlock()
		if all >= n {
			return seen
		}
		if time.Now().After(deadline) {
			x.t.Fatalf("%d of %d commands: %v", all, n, lines(seen))
		}
	}
}

func (x *tracing) stop() {
	x.t.Helper()
	x.cancel()
	if err := <-x.ended; err != nil {
		x.t.Error(err)
	}
}

// lines are commands without what changes from run to run.
func lines(all []iserd.TracedCommand) (out []string) {
	for _, c := range all {
		out = append(out, strings.TrimSpace(fmt.Sprintf("%d/%d %s %x %d+%d %dB %s %s", c.LUN, c.Number, c.Name, c.CDB[0], c.LBA, c.Blocks, c.Bytes, c.Status, c.Sense)))
	}
	return out
}

// TestTrace: each command is told with its name, addresses, end and times; also
// to a LUN that there is not, with an unknown operation code, and one that was
// aborted.
func TestTrace(t *testing.T) {
	b, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	slow := fault.New(b)
	srv, addr := start(t, iserd.LUN(1, slow))
	t.Cleanup(slow.Clear)
	s := connect(t, addr, nil)
	settle(t, s)
	x := traced(t, srv, iserd.TraceOptions{LUN: -1})
	do := func(lun pdu.LUN, cdb, out []byte, in int) {
		t.Helper()
		if _, err := s.Exec(t.Context(), lun, cdb, out, in); err != nil {
			t.Fatal(err)
		}
	}
	do(0, cdb10(0x2A, 7, 8), make([]byte, 4096), 0)
	do(0, cdb10(0x28, 7, 8), nil, 4096)
	do(0, []byte{0xC1, 0, 0, 0, 0, 0}, nil, 0)
	do(0, cdb10(0x28, 1<<31, 8), nil, 4096)
	do(pdu.LUNOf(9), make([]byte, 6), nil, 0)
	do(pdu.LUNOf(1), make([]byte, 6), nil, 0) // unit attention
	hang := slow.Inject(fault.Rule{Ops: filter.Write, Action: fault.Hang, Count: 1})
	task, err := s.Start(t.Context(), initiator.Command{LUN: pdu.LUNOf(1), CDB: cdb10(0x2A, 0, 1), DataOut: make([]byte, 512)})
	if err != nil {
		t.Fatal(err)
	}
	for hang.Hanging() == 0 {
		time.Sleep(time.Millisecond)
	}
	aborted := make(chan error, 1)
	go func() {
		_, err := s.TaskManagement(context.Background(), pdu.AbortTask, pdu.LUNOf(1), task)
		aborted <- err
	}()
	time.Sleep(20 * time.Millisecond) // the time that the command takes
	slow.Clear()
	if err := <-aborted; err != nil {
		t.Fatal(err)
	}
	all := x.wait(7)
	x.stop()
	want := []string{
		"0/0 WRITE(10) 2a 7+8 4096B GOOD",
		"0/0 READ(10) 28 7+8 4096B GOOD",
		"0/0  c1 0+0 0B CHECK CONDITION ILLEGAL REQUEST 20h/00h",
		"0/0 READ(10) 28 2147483648+8 0B CHECK CONDITION ILLEGAL REQUEST 21h/00h",
		"9/-1 TEST UNIT READY 0 0+0 0B CHECK CONDITION ILLEGAL REQUEST 25h/00h",
		"1/1 TEST UNIT READY 0 0+0 0B CHECK CONDITION UNIT ATTENTION 29h/00h",
		"1/1 WRITE(10) 2a 0+1 0B ABORTED",
	}
	if d := cmp.Diff(want, lines(all)); d != "" {
		t.Error(d)
	}
	for i, c := range all {
		if c.Initiator != initiator.DefaultInitiatorName || c.Target != testTarget || c.TSIH != 1 || time.Since(c.Time) > time.Minute {
			t.Errorf("%+v", c)
		}
		if sum := c.Wire + c.Queue + c.Backend; i != 4 && (c.Total <= 0 || sum > c.Total || c.Wire < 0 || c.Queue < 0 || c.Backend < 0) {
			t.Errorf("%s: %v in %v, %v, %v", c.Name, c.Total, c.Wire, c.Queue, c.Backend)
		}
	}
	if c := all[len(all)-1]; c.Total < 20*time.Millisecond {
		t.Errorf("the aborted command took %v", c.Total)
	}
}

// TestTraceChooses: each filter lets through what it says, and what is too much
// is counted.
func TestTraceChooses(t *testing.T) {
	srv, addr := start(t)
	const foe = "iqn.2026-11.com.example:foe"
	a, b := connect(t, addr, nil), connect(t, addr, func(o *initiator.Options) { o.InitiatorName = foe })
	settle(t, a)
	settle(t, b)
	none := iserd.TraceOptions{LUN: -1}
	with := func(f func(*iserd.TraceOptions)) *tracing {
		o := none
		f(&o)
		return traced(t, srv, o)
	}
	all := with(func(*iserd.TraceOptions) {})
	byName := with(func(o *iserd.TraceOptions) { o.Initiator = foe })
	byTSIH := with(func(o *iserd.TraceOptions) { o.TSIH = a.LoginResult().TSIH })
	errs := with(func(o *iserd.TraceOptions) { o.Errors = true })
	slow := with(func(o *iserd.TraceOptions) { o.SlowerThan = time.Hour })
	lun := with(func(o *iserd.TraceOptions) { o.Target, o.LUN = testTarget, 1 })
	few := with(func(o *iserd.TraceOptions) { o.PerSecond = 2 })
	const each = 20
	for range each {
		for _, s := range []*initiator.Session{a, b} {
			if _, err := s.Exec(t.Context(), 0, make([]byte, 6), nil, 0); err != nil {
				t.Fatal(err)
			}
		}
	}
	if _, err := b.Exec(t.Context(), 0, []byte{0xC1, 0, 0, 0, 0, 0}, nil, 0); err != nil {
		t.Fatal(err)
	}
	all.wait(2*each + 1)
	few.wait(2*each + 1)
	for _, x := range []struct {
		name string
		x    *tracing
		want int
	}{{"all", all, 2*each + 1}, {"by name", byName, each + 1}, {"by TSIH", byTSIH, each}, {"errors", errs, 1}, {"slow", slow, 0}, {"LUN", lun, 0}} {
		x.x.wait(x.want)
		x.x.stop()
		if len(x.x.seen) != x.want || x.x.missed != 0 {
			t.Errorf("%s: %d shown, %d not; want %d", x.name, len(x.x.seen), x.x.missed, x.want)
		}
	}
	few.stop()
	// The seconds of the clock may turn in between.
	if n := len(few.seen); n < 2 || n > 2*each || n+int(few.missed) != 2*each+1 {
		t.Errorf("%d shown, %d not", n, few.missed)
	}
}

// TestObserversComeAndGo: captures and traces begin and end while a session reads
// and writes; no command is lost or wrong for it, and in the end nobody looks.
func TestObserversComeAndGo(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, digests)
	settle(t, s)
	stop, done := make(chan struct{}), make(chan error, 1)
	go func() {
		data := make([]byte, 48<<10)
		for i := byte(0); ; i++ {
			select {
			case <-stop:
				done <- nil
				return
			default:
			}
			for k := range data {
				data[k] = i
			}
			if res, err := s.Exec(context.Background(), 0, cdb10(0x2A, 0, 96), data, 0); err != nil || res.Err() != nil {
				done <- fmt.Errorf("WRITE: %w %+v", err, res)
				return
			}
			res, err := s.Exec(context.Background(), 0, cdb10(0x28, 0, 96), nil, len(data))
			if err != nil || !bytes.Equal(res.Data, data) {
				done <- fmt.Errorf("READ: %w", err)
				return
			}
		}
	}()
	for i := range 20 {
		rec := record(t, srv, iserd.CaptureOptions{Snaplen: 64 * (i % 2)})
		other := record(t, srv, iserd.CaptureOptions{})
		x := traced(t, srv, iserd.TraceOptions{LUN: -1})
		x.wait(2)
		x.stop()
		if counts(t, rec.stop()).Received == 0 || counts(t, other.stop()).Received == 0 {
			t.Error("nothing captured")
		}
	}
	close(stop)
	if err := <-done; err != nil {
		t.Fatal(err)
	}
}
