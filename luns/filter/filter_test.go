package filter_test

import (
	"context"
	"errors"
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
	"github.com/iserd/iserd/luns/memory"
)

func TestOp(t *testing.T) {
	for i := range filter.NumOps {
		op := filter.Op(1) << i
		if op.Index() != i {
			t.Errorf("%v has index %d, want %d", op, op.Index(), i)
		}
		if got, err := filter.ParseOp(op.String()); err != nil || got != op {
			t.Errorf("ParseOp(%q): %v, %v", op.String(), got, err)
		}
	}
	if got, err := filter.ParseOp("all"); err != nil || got != filter.All {
		t.Errorf("ParseOp(all): %v, %v", got, err)
	}
	if _, err := filter.ParseOp("fly"); err == nil {
		t.Error("ParseOp(fly) succeeded")
	}
	if got := (filter.Read | filter.Flush).String(); got != "read|flush" {
		t.Errorf("set: %q", got)
	}
	if got := filter.Op(0).String(); got != "none" {
		t.Errorf("empty set: %q", got)
	}
}

// recorder fails the requests that it is told to.
type recorder struct {
	seen  []filter.Op
	early error
	late  error
}

func (r *recorder) Before(_ context.Context, q filter.Request) (filter.Token, error) {
	r.seen = append(r.seen, q.Op)
	return filter.Token{N: 42}, r.early
}

func (r *recorder) After(_ filter.Request, tok filter.Token, err error) error {
	if tok.N != 42 {
		return errors.New("the token got lost")
	}
	if err == nil {
		err = r.late
	}
	return err
}

// Every kind of request passes the hook, and gets its errors.
func TestHook(t *testing.T) {
	m, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	h := &recorder{}
	b := filter.Wrap(m, h, true)
	defer b.Close()
	ctx, p := t.Context(), make([]byte, 512)
	calls := []struct {
		op   filter.Op
		call func() error
	}{
		{filter.Read, func() error { return b.ReadAt(ctx, p, 0) }},
		{filter.Write, func() error { return b.WriteAt(ctx, p, 0, 0) }},
		{filter.Flush, func() error { return b.Flush(ctx) }},
		{filter.Unmap, func() error { u, _ := luns.As[luns.Unmapper](b); return u.Unmap(ctx, 0, 512) }},
		{filter.WriteZeroes, func() error {
			z, _ := luns.As[luns.Zeroer](b)
			return z.WriteZeroes(ctx, 0, 512, true, 0)
		}},
		{filter.Extents, func() error {
			e, _ := luns.As[luns.Extenter](b)
			var last error
			for _, err := range e.Extents(ctx, 0, 512) {
				last = err
			}
			return last
		}},
		{filter.Resize, func() error { r, _ := luns.As[luns.Resizer](b); return r.Resize(ctx, 1<<20) }},
		{filter.Read, func() error { tr, _ := luns.As[luns.Trier](b); _, err := tr.TryReadAt(p, 0); return err }},
		{filter.Write, func() error { tr, _ := luns.As[luns.Trier](b); _, err := tr.TryWriteAt(p, 0, 0); return err }},
	}
	for _, want := range []struct{ early, late error }{{}, {early: luns.ErrOffline}, {late: luns.ErrTransient}} {
		h.early, h.late = want.early, want.late
		for _, c := range calls {
			h.seen = nil
			err := c.call()
			if len(h.seen) != 1 || h.seen[0] != c.op {
				t.Errorf("%v: the hook saw %v", c.op, h.seen)
			}
			if target := errors.Join(want.early, want.late); (err == nil) != (target == nil) || err != nil && !errors.Is(err, want.early) && !errors.Is(err, want.late) {
				t.Errorf("%v: %v, want %v", c.op, err, target)
			}
		}
	}
	if b.Next() != luns.Backend(m) || b.Info() != m.Info() {
		t.Error("Next or Info")
	}
}
