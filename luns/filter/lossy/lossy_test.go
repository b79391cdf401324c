package lossy_test

import (
	"bytes"
	"errors"
	"math/rand/v2"
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter/lossy"
	"github.com/iserd/iserd/luns/lunstest"
	"github.com/iserd/iserd/luns/memory"
)

func disk(t *testing.T, size int64) luns.Backend {
	t.Helper()
	m, err := memory.New(memory.Options{Size: size})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

func cache(t *testing.T, below luns.Backend) *lossy.Backend {
	t.Helper()
	b, err := lossy.New(t.Context(), below, 512)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func TestAcceptance(t *testing.T) {
	lunstest.Run(t, func(t *testing.T) luns.Backend { return cache(t, disk(t, 1<<20)) })
}

func TestSectorSize(t *testing.T) {
	for _, sector := range []int{0, -1, 4096} {
		if _, err := lossy.New(t.Context(), disk(t, 512*9), sector); err == nil {
			t.Errorf("a sector of %d was taken", sector)
		}
	}
}

// Durable sectors survive every crash, others have one of the contents that
// were written since.
func TestCrash(t *testing.T) {
	const sectors = 64
	below := disk(t, sectors*512)
	rng := rand.New(rand.NewPCG(1, 2))
	allowed := make([]map[byte]bool, sectors)
	for i := range allowed {
		allowed[i] = map[byte]bool{0: true}
	}
	lost := 0
	for cycle := range 100 {
		b := cache(t, below)
		newest := make([]byte, sectors)
		p := make([]byte, 512)
		for i := range newest {
			if err := b.ReadAt(t.Context(), p, int64(i)*512); err != nil {
				t.Fatal(err)
			}
			if !allowed[i][p[0]] || !bytes.Equal(p, bytes.Repeat(p[:1], 512)) {
				t.Fatalf("cycle %d: sector %d holds %d, want one of %v", cycle, i, p[0], allowed[i])
			}
			newest[i] = p[0]
			allowed[i] = map[byte]bool{p[0]: true}
		}
		for range 200 {
			i, v := rng.IntN(sectors), byte(rng.IntN(256))
			switch op := rng.IntN(50); op {
			case 0:
				if err := b.Flush(t.Context()); err != nil {
					t.Fatal(err)
				}
				for j := range allowed {
					allowed[j] = map[byte]bool{newest[j]: true}
				}
			default:
				f := luns.Flags(op & 1)
				if err := b.WriteAt(t.Context(), bytes.Repeat([]byte{v}, 512), int64(i)*512, f); err != nil {
					t.Fatal(err)
				}
				newest[i] = v
				if f == luns.FUA {
					clear(allowed[i])
				}
				allowed[i][v] = true
			}
		}
		lost += b.Pending()
		var err error
		if below, err = b.Crash(t.Context(), rng.IntN); err != nil {
			t.Fatal(err)
		}
		if err := b.Flush(t.Context()); !errors.Is(err, luns.ErrOffline) {
			t.Fatalf("Flush after Crash: %v", err)
		}
	}
	if lost == 0 {
		t.Error("nothing was ever at risk")
	}
}
