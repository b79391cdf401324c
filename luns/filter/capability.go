package filter

import (
	"context"
	"iter"

	"github.com/iserd/iserd/luns"
)

// As implements luns.Asker: what the backend below has, through the hook.
func (b *Backend) As(target any) bool {
	switch t := target.(type) {
	case *luns.Unmapper:
		next, ok := luns.As[luns.Unmapper](b.next)
		*t = unmapper{b, next}
		return ok
	case *luns.Zeroer:
		next, ok := luns.As[luns.Zeroer](b.next)
		*t = zeroer{b, next}
		return ok
	case *luns.Extenter:
		next, ok := luns.As[luns.Extenter](b.next)
		*t = extenter{b, next}
		return ok
	case *luns.Resizer:
		next, ok := luns.As[luns.Resizer](b.next)
		*t = resizer{b, next}
		return ok
	case *luns.Refresher:
		next, ok := luns.As[luns.Refresher](b.next)
		*t = refresher{b, next}
		return ok
	case *luns.Trier:
		next, ok := luns.As[luns.Trier](b.next)
		*t = trier{b, next}
		return ok && b.try
	case *luns.ResourceCounter:
		next, ok := luns.As[luns.ResourceCounter](b.next)
		*t = next // no request for the medium: nothing for the hook
		return ok
	default:
		return false
	}
}

type unmapper struct {
	b    *Backend
	next luns.Unmapper
}

func (u unmapper) Unmap(ctx context.Context, off, n int64) error {
	r := Request{Op: Unmap, Off: off, Len: n}
	tok, err := u.b.hook.Before(ctx, r)
	if err != nil {
		return err
	}
	return u.b.hook.After(r, tok, u.next.Unmap(ctx, off, n))
}

type zeroer struct {
	b    *Backend
	next luns.Zeroer
}

func (z zeroer) WriteZeroes(ctx context.Context, off, n int64, mayUnmap bool, f luns.Flags) error {
	r := Request{Op: WriteZeroes, Off: off, Len: n, Flags: f}
	tok, err := z.b.hook.Before(ctx, r)
	if err != nil {
		return err
	}
	return z.b.hook.After(r, tok, z.next.WriteZeroes(ctx, off, n, mayUnmap, f))
}

type extenter struct {
	b    *Backend
	next luns.Extenter
}

func (e extenter) Extents(ctx context.Context, off, n int64) iter.Seq2[luns.Extent, error] {
	return func(yield func(luns.Extent, error) bool) {
		r := Request{Op: Extents, Off: off, Len: n}
		tok, err := e.b.hook.Before(ctx, r)
		if err != nil {
			yield(luns.Extent{}, err)
			return
		}
		var last error
		for x, err := range e.next.Extents(ctx, off, n) {
			if err != nil {
				last = err
				break
			}
			if !yield(x, nil) {
				_ = e.b.hook.After(r, tok, nil) // the consumer has gone
				return
			}
		}
		if err := e.b.hook.After(r, tok, last); err != nil {
			yield(luns.Extent{}, err)
		}
	}
}

type resizer struct {
	b    *Backend
	next luns.Resizer
}

func (s resizer) Resize(ctx context.Context, size int64) error {
	r := Request{Op: Resize, Len: size}
	tok, err := s.b.hook.Before(ctx, r)
	if err != nil {
		return err
	}
	return s.b.hook.After(r, tok, s.next.Resize(ctx, size))
}

type refresher struct {
	b    *Backend
	next luns.Refresher
}

func (f refresher) Refresh(ctx context.Context) (size int64, err error) {
	r := Request{Op: Refresh}
	tok, err := f.b.hook.Before(ctx, r)
	if err != nil {
		return 0, err
	}
	size, err = f.next.Refresh(ctx)
	return size, f.b.hook.After(r, tok, err)
}

type trier struct {
	b    *Backend
	next luns.Trier
}

func (t trier) TryReadAt(p []byte, off int64) (done bool, err error) {
	r := Request{Op: Read, Off: off, Len: int64(len(p)), Data: p}
	tok, err := t.b.hook.Before(context.Background(), r)
	if err != nil {
		return true, err
	}
	done, err = t.next.TryReadAt(p, off)
	if !done {
		return false, nil // After is for the ReadAt that follows
	}
	return true, t.b.hook.After(r, tok, err)
}

func (t trier) TryWriteAt(p []byte, off int64, f luns.Flags) (done bool, err error) {
	r := Request{Op: Write, Off: off, Len: int64(len(p)), Flags: f, Data: p}
	tok, err := t.b.hook.Before(context.Background(), r)
	if err != nil {
		return true, err
	}
	done, err = t.next.TryWriteAt(p, off, f)
	if !done {
		return false, nil
	}
	return true, t.b.hook.After(r, tok, err)
}
