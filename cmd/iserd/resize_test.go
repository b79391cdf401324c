package main

import (
	"encoding/binary"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

// TestResizeTakesOver: a file that has grown by other means is taken over at the
// command, and only where the next start of the daemon would have it so.
func TestResizeTakesOver(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(path, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	text := strings.Replace(reloadA, `backend "memory" "still" { size = "16MiB" }`, fmt.Sprintf("backend \"file\" \"still\" { path = %q }", path), 1)
	text = strings.ReplaceAll(text, "backend.memory.still", "backend.file.still")
	r := newRig(t, text)
	cl := r.open(config.Console{}, nil)
	s := r.connect(aluaTarget)
	blocks := func() uint32 {
		t.Helper()
		b, asc := scsiExec(t, s, []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 8)
		if asc != 0 {
			t.Fatalf("READ CAPACITY: %#04x", asc)
		}
		return binary.BigEndian.Uint32(b) + 1
	}
	if got := blocks(); got != 2048 {
		t.Fatalf("%d blocks", got)
	}
	if err := os.Truncate(path, 4<<20); err != nil {
		t.Fatal(err)
	}
	if got := blocks(); got != 2048 {
		t.Errorf("%d blocks without a command", got)
	}
	if err := cl.ResizeLUN(t.Context(), aluaTarget, 0, ""); err != nil {
		t.Fatal(err)
	}
	if _, asc := scsiExec(t, s, readBlock, nil, 512); asc != 0x2A09 {
		t.Errorf("%#04x, want CAPACITY DATA HAS CHANGED", asc)
	}
	if got := blocks(); got != 8192 {
		t.Errorf("%d blocks after the command", got)
	}
	if err := os.Truncate(path, 2<<20); err != nil {
		t.Fatal(err)
	}
	if err := cl.ResizeLUN(t.Context(), aluaTarget, 0, ""); err == nil || !strings.Contains(err.Error(), "grow it back") {
		t.Errorf("a shorter file: %v", err)
	}
	if err := os.Truncate(path, 4<<20); err != nil {
		t.Fatal(err)
	}
	err := cl.ResizeLUN(t.Context(), aluaTarget, 0, "8MiB")
	if !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), r.file+":8") {
		t.Errorf("another size for a LUN of the files: %v", err)
	}

	r.write(strings.Replace(text, fmt.Sprintf("{ path = %q }", path), fmt.Sprintf("{\n  path = %q\n  size = \"4MiB\"\n}", path), 1))
	if _, _, err := r.ctl.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	err = cl.ResizeLUN(t.Context(), aluaTarget, 0, "")
	if !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), r.file+":8: change it there") {
		t.Errorf("a size that is configured: %v", err)
	}

	// The same with a LUN that was attached by command.
	made := filepath.Join(t.TempDir(), "made")
	if err := os.WriteFile(made, make([]byte, 1<<20), 0o600); err != nil {
		t.Fatal(err)
	}
	const name = "iqn.2026-11.com.example:made"
	spec := api.TargetSpec{Insecure: true, LUNs: []api.LUNSpec{{Backend: api.BackendSpec{Kind: "file", Path: made, Size: "1MiB"}}}}
	if _, err := cl.EnsureTarget(t.Context(), name, &spec); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(made, 2<<20); err != nil {
		t.Fatal(err)
	}
	if err := cl.ResizeLUN(t.Context(), name, 0, ""); !errors.Is(err, api.ErrConflict) || !strings.Contains(err.Error(), "--size") {
		t.Errorf("a size that was said: %v", err)
	}
	if err := cl.ResizeLUN(t.Context(), name, 0, "2MiB"); err != nil {
		t.Fatal(err)
	}
	if l, err := cl.LUN(t.Context(), name, 0); err != nil || l.Size != 2<<20 {
		t.Errorf("%+v %v", l, err)
	}
}
