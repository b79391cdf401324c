package memory_test

import (
	"bytes"
	"errors"
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/memory"
)

func TestRoundTrip(t *testing.T) {
	b, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	want := bytes.Repeat([]byte("iserd"), 1000)
	if err := b.WriteAt(t.Context(), want, 777, luns.FUA); err != nil {
		t.Fatal(err)
	}
	got := make([]byte, len(want))
	if err := b.ReadAt(t.Context(), got, 777); err != nil || !bytes.Equal(got, want) {
		t.Fatalf("read back: %v", err)
	}
	if err := b.Close(); err != nil {
		t.Fatal(err)
	}
	if err := b.ReadAt(t.Context(), got, 777); !errors.Is(err, luns.ErrOffline) {
		t.Fatalf("read after Close: %v, want ErrOffline", err)
	}
}
