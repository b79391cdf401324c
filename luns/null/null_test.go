package null_test

import (
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/lunstest"
	"github.com/iserd/iserd/luns/null"
)

func TestAcceptance(t *testing.T) {
	lunstest.Run(t, func(t *testing.T) luns.Backend {
		b, err := null.New(null.Options{Size: 1 << 40})
		if err != nil {
			t.Fatal(err)
		}
		return b
	}, lunstest.Discards())
}

func TestOptions(t *testing.T) {
	if _, err := null.New(null.Options{}); err == nil {
		t.Error("a size of 0 was taken")
	}
}

func TestWritesAreDiscarded(t *testing.T) {
	b, err := null.New(null.Options{Size: 4096})
	if err != nil {
		t.Fatal(err)
	}
	defer b.Close()
	p := []byte("data")
	if err := b.WriteAt(t.Context(), p, 0, 0); err != nil {
		t.Fatal(err)
	}
	if err := b.ReadAt(t.Context(), p, 0); err != nil || string(p) != "\x00\x00\x00\x00" {
		t.Fatalf("read %q, %v", p, err)
	}
}
