package initiator_test

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/iserd/iserd/internal/bench/tgt"
)

// startTgt runs Debian's tgt, the reference target of these tests, with a LUN 1
// of size bytes.
func startTgt(t *testing.T, size int64) *tgt.Server {
	t.Helper()
	file := filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	s, err := tgt.Start(t.Context(), tgt.Config{Backing: file})
	if errors.Is(err, tgt.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

func admin(t *testing.T, s *tgt.Server, args ...string) {
	t.Helper()
	if err := s.Admin(args...); err != nil {
		t.Fatal(err)
	}
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
