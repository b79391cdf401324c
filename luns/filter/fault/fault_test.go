package fault_test

import (
	"bytes"
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
	"github.com/iserd/iserd/luns/filter/fault"
	"github.com/iserd/iserd/luns/lunstest"
	"github.com/iserd/iserd/luns/memory"
)

func open(t *testing.T, opts ...fault.Option) *fault.Backend {
	t.Helper()
	m, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return fault.New(m, opts...)
}

func TestAcceptance(t *testing.T) {
	lunstest.Run(t, func(t *testing.T) luns.Backend { return open(t) })
}

func TestRules(t *testing.T) {
	ctx, p := t.Context(), make([]byte, 512)
	read := func(off int64) func(b luns.Backend) error {
		return func(b luns.Backend) error { return b.ReadAt(ctx, p, off) }
	}
	write := func(b luns.Backend) error { return b.WriteAt(ctx, p, 0, 0) }
	flush := func(b luns.Backend) error { return b.Flush(ctx) }
	unmap := func(b luns.Backend) error {
		u, _ := luns.As[luns.Unmapper](b)
		return u.Unmap(ctx, 0, 512)
	}
	for _, c := range []struct {
		name  string
		rule  fault.Rule
		calls []func(luns.Backend) error
		fails []bool
		err   error
	}{
		{"everything", fault.Rule{}, []func(luns.Backend) error{read(0), write, flush, unmap}, []bool{true, true, true, true}, luns.ErrMedium},
		{"reads", fault.Rule{Ops: filter.Read, Err: luns.ErrTransient}, []func(luns.Backend) error{read(0), write}, []bool{true, false}, luns.ErrTransient},
		{"range", fault.Rule{Off: 1024, Len: 512}, []func(luns.Backend) error{read(0), read(512), read(1023), read(1024), read(1535), read(1536), flush}, []bool{false, false, true, true, true, false, false}, luns.ErrMedium},
		{"one shot", fault.Rule{Count: 1}, []func(luns.Backend) error{write, write}, []bool{true, false}, luns.ErrMedium},
		{"third and fourth", fault.Rule{Skip: 2, Count: 2}, []func(luns.Backend) error{write, write, write, write, write}, []bool{false, false, true, true, false}, luns.ErrMedium},
		{"never", fault.Rule{Rate: 0.4}, []func(luns.Backend) error{write}, []bool{false}, nil},
		{"often", fault.Rule{Rate: 0.6}, []func(luns.Backend) error{write}, []bool{true}, luns.ErrMedium},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := open(t, fault.WithRand(func() float64 { return 0.5 }))
			defer b.Close()
			i := b.Inject(c.rule)
			hits := int64(0)
			for n, call := range c.calls {
				err := call(b)
				if (err != nil) != c.fails[n] || err != nil && !errors.Is(err, c.err) {
					t.Errorf("call %d: %v, want failure %v", n, err, c.fails[n])
				}
				if err != nil {
					hits++
				}
			}
			if i.Hits() != hits {
				t.Errorf("Hits is %d, want %d", i.Hits(), hits)
			}
			b.Clear()
			for n, call := range c.calls {
				if err := call(b); err != nil {
					t.Errorf("call %d after Clear: %v", n, err)
				}
			}
		})
	}
}

func TestFailAfterAndTorn(t *testing.T) {
	b := open(t)
	defer b.Close()
	ctx, ones := t.Context(), bytes.Repeat([]byte{1}, 4096)
	b.Inject(fault.Rule{Ops: filter.Write, Action: fault.FailAfter, Count: 1, Err: luns.ErrOffline})
	if err := b.WriteAt(ctx, ones, 0, 0); !errors.Is(err, luns.ErrOffline) {
		t.Errorf("late failure: %v", err)
	}
	b.Inject(fault.Rule{Ops: filter.Write, Action: fault.Torn, Bytes: 1024})
	if err := b.WriteAt(ctx, ones, 8192, 0); !errors.Is(err, luns.ErrMedium) {
		t.Errorf("torn write: %v", err)
	}
	got := make([]byte, 12288)
	if err := b.ReadAt(ctx, got, 0); err != nil {
		t.Fatal(err)
	}
	want := make([]byte, len(got))
	copy(want, ones)
	copy(want[8192:], ones[:1024])
	if !bytes.Equal(got, want) {
		t.Error("the medium does not hold what the rules say")
	}
}

func TestHang(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		b := open(t)
		i := b.Inject(fault.Rule{Ops: filter.Write, Action: fault.Hang})
		ctx, cancel := context.WithCancel(t.Context())
		result, closed := make(chan error, 1), make(chan error, 1)
		go func() { result <- b.WriteAt(ctx, []byte("late"), 0, 0) }()
		synctest.Wait()
		cancel() // a dead disk does not care
		go func() { closed <- b.Close() }()
		synctest.Wait()
		if i.Hanging() != 1 || len(result) != 0 || len(closed) != 0 {
			t.Fatalf("hanging %d, returned %d, closed %d", i.Hanging(), len(result), len(closed))
		}
		if err := b.WriteAt(t.Context(), []byte("x"), 0, 0); !errors.Is(err, luns.ErrOffline) {
			t.Errorf("write while closing: %v", err)
		}
		b.Clear()
		<-result
		if err := <-closed; err != nil {
			t.Error(err)
		}
		if i.Hanging() != 0 {
			t.Errorf("still hanging: %d", i.Hanging())
		}
	})
}

func TestPanic(t *testing.T) {
	b := open(t)
	defer b.Close()
	b.Inject(fault.Rule{Ops: filter.Flush, Action: fault.Panic, Count: 1})
	func() {
		defer func() {
			if recover() == nil {
				t.Error("no panic")
			}
		}()
		_ = b.Flush(t.Context())
	}()
	if err := b.Flush(t.Context()); err != nil {
		t.Errorf("after the panic: %v", err)
	}
}
