package luns_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/lunstest"
)

// This file is a walk-through for authors of backends. It builds one on a
// key-value store: here a map, in real life something over the network.

// chunkSize is the unit in which the store keeps data.
const chunkSize = 64 << 10

// errBusy is what the store returns when it is overloaded.
var errBusy = errors.New("store: busy")

// chunks is the backend. Step 1: decide what it is made of. Everything that is
// used by several goroutines is guarded, since all methods are called
// concurrently.
type chunks struct {
	size int64

	// mu guards data and closed. Calls hold it while they work, so that Close
	// waits for them, as the contract asks.
	mu     sync.RWMutex
	data   map[int64][]byte // by chunk number; what is missing is zero
	closed bool
}

// openChunks is the constructor. Step 2: check the configuration here, and
// return errors that name what is wrong.
func openChunks(size int64) (*chunks, error) {
	if size <= 0 || size%512 != 0 {
		return nil, fmt.Errorf("chunks: size %d is not a positive multiple of 512", size)
	}
	return &chunks{size: size, data: make(map[int64][]byte)}, nil
}

// Info says what the backend is. Step 3: be honest. VolatileCache is false
// because this store has no cache that Flush could write out; UnmapZeroes is
// true because Unmap below really zeroes.
func (c *chunks) Info() luns.Info {
	return luns.Info{
		Size: c.size, BlockSize: 1, OptimalIOSize: chunkSize,
		Thin: true, UnmapGranularity: chunkSize, UnmapZeroes: true,
	}
}

// each calls f for the pieces of [off, off+n) that lie in one chunk each. The
// range needs no check: the caller has done that.
func each(off, n int64, f func(chunk, from, to, done int64)) {
	for done := int64(0); done < n; {
		from := (off + done) % chunkSize
		to := min(from+n-done, chunkSize)
		f((off+done)/chunkSize, from, to, done)
		done += to - from
	}
}

// ReadAt fills all of p. Step 4: no short reads; what was never written is
// zero, and p must be overwritten there too, since it is not clean.
func (c *chunks) ReadAt(ctx context.Context, p []byte, off int64) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return luns.ErrClosed
	}
	each(off, int64(len(p)), func(chunk, from, to, done int64) {
		part := p[done : done+to-from]
		if n := copy(part, c.data[chunk][min(from, int64(len(c.data[chunk]))):]); n < len(part) {
			clear(part[n:])
		}
	})
	return nil
}

// WriteAt stores p. Step 5: it must not keep p, so it copies. With luns.FUA
// the data has to be on stable media on return; here it always is as stable
// as it gets, so the flag needs no work.
func (c *chunks) WriteAt(ctx context.Context, p []byte, off int64, _ luns.Flags) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return luns.ErrClosed
	}
	each(off, int64(len(p)), func(chunk, from, to, done int64) {
		if c.data[chunk] == nil {
			c.data[chunk] = make([]byte, chunkSize)
		}
		copy(c.data[chunk][from:to], p[done:])
	})
	return nil
}

// Flush has nothing to do in a store without a cache.
func (c *chunks) Flush(context.Context) error {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if c.closed {
		return luns.ErrClosed
	}
	return nil
}

// Close ends it all. Closing twice is harmless.
func (c *chunks) Close() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.closed = true
	return nil
}

// Unmap makes chunks a luns.Unmapper. Step 6: capabilities are just methods;
// luns.As finds them. A backend that knows only at run time whether it has
// them implements luns.Asker as well.
func (c *chunks) Unmap(_ context.Context, off, n int64) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed {
		return luns.ErrClosed
	}
	each(off, n, func(chunk, from, to, _ int64) {
		switch {
		case to-from == chunkSize:
			delete(c.data, chunk)
		case c.data[chunk] != nil:
			clear(c.data[chunk][from:to])
		}
	})
	return nil
}

// classify shows step 7: say which class an error has, and keep the cause. The
// initiator of a failed command gets the sense data of that class.
func classify(op string, off int64, err error) error {
	if errors.Is(err, errBusy) {
		return fmt.Errorf("chunks: %s at %d: %w (%w)", op, off, luns.ErrTransient, err)
	}
	return fmt.Errorf("chunks: %s at %d: %w (%w)", op, off, luns.ErrMedium, err)
}

// Step 8: the compiler checks that the methods have the right shape.
var (
	_ luns.Backend  = (*chunks)(nil)
	_ luns.Unmapper = (*chunks)(nil)
)

// Step 9: run the acceptance kit, with -race.
func TestChunks(t *testing.T) {
	lunstest.Run(t, func(t *testing.T) luns.Backend {
		c, err := openChunks(1 << 20)
		if err != nil {
			t.Fatal(err)
		}
		return c
	})
}

// options are what a configuration says about one backend.
type options struct {
	Size int64 `hcl:"size"`
}

// Step 10: make it known by name.
func init() {
	luns.Register("chunks", func(decode func(any) error) (luns.Opener, error) {
		var o options
		if err := decode(&o); err != nil {
			return nil, err
		}
		return func(context.Context) (luns.Backend, error) {
			c, err := openChunks(o.Size)
			if err != nil {
				return nil, err // not c: a nil *chunks in an interface is not nil
			}
			return c, nil
		}, nil
	})
}

// Step 11: use it, as the server does.
func Example() {
	factory, _ := luns.Lookup("chunks")
	open, err := factory(func(into any) error { *into.(*options) = options{Size: 1 << 20}; return nil })
	if err != nil {
		fmt.Println(err)
		return
	}
	ctx := context.Background()
	b, err := open(ctx)
	if err != nil {
		fmt.Println(err)
		return
	}
	defer b.Close()

	_ = b.WriteAt(ctx, []byte("hello"), 1000, luns.FUA)
	if u, ok := luns.As[luns.Unmapper](b); ok {
		_ = u.Unmap(ctx, 1000, 1)
	}
	p := make([]byte, 5)
	_ = b.ReadAt(ctx, p, 1000)
	fmt.Printf("%q\n", p)
	fmt.Println(classify("read", 1000, errBusy))
	// Output:
	// "\x00ello"
	// chunks: read at 1000: temporary failure (store: busy)
}
