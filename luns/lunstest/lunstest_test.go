package lunstest_test

import (
	"context"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/lunstest"
	"github.com/iserd/iserd/luns/memory"
)

// broken is a backend with one mistake, chosen by name.
type broken struct {
	*memory.Backend
	how string
}

func (b *broken) WriteAt(ctx context.Context, p []byte, off int64, f luns.Flags) error {
	switch {
	case b.how == "changes the buffer" && len(p) > 0:
		defer func() { p[0]++ }()
	case b.how == "loses the end of a write" && len(p) > 4096:
		p = p[:len(p)-1]
	case b.how == "ignores durable writes" && f == luns.FUA:
		return nil
	}
	return b.Backend.WriteAt(ctx, p, off, f)
}

func (b *broken) ReadAt(ctx context.Context, p []byte, off int64) error {
	if b.how == "reads short" && len(p) > 512 {
		p = p[:len(p)-1]
	}
	return b.Backend.ReadAt(ctx, p, off)
}

func (b *broken) Unmap(ctx context.Context, off, n int64) error {
	switch {
	case b.how == "unmaps too much" && off > 0 && n > 0:
		off, n = off-1, n+1
	case b.how == "unmaps nothing":
		return nil
	}
	return b.Backend.Unmap(ctx, off, n)
}

func (b *broken) Close() error {
	if b.how == "works after Close" {
		return nil
	}
	return b.Backend.Close()
}

func (b *broken) As(target any) bool {
	switch t := target.(type) {
	case *luns.Unmapper:
		*t = b
	case *luns.Zeroer:
		*t = b.Backend
	default:
		return false
	}
	return true
}

const brokenEnv = "ISERD_TEST_BROKEN"

// TestBroken is run by TestKitFindsMistakes, in a process of its own.
func TestBroken(t *testing.T) {
	how := os.Getenv(brokenEnv)
	if how == "" {
		t.Skip("a helper of TestKitFindsMistakes")
	}
	lunstest.Run(t, func(t *testing.T) luns.Backend {
		m, err := memory.New(memory.Options{Size: 1 << 20})
		if err != nil {
			t.Fatal(err)
		}
		return &broken{Backend: m, how: how}
	})
}

func TestKitFindsMistakes(t *testing.T) {
	for how, where := range map[string]string{
		"nothing":                  "",
		"changes the buffer":       "Ranges",
		"loses the end of a write": "Ranges",
		"ignores durable writes":   "Durable",
		"reads short":              "Ranges",
		"unmaps too much":          "Unmap",
		"unmaps nothing":           "Unmap",
		"works after Close":        "CloseUnderLoad",
	} {
		t.Run(how, func(t *testing.T) {
			t.Parallel()
			run := "^TestBroken$"
			if where != "" {
				run += "/^" + where + "$"
			}
			cmd := exec.Command(os.Args[0], "-test.run="+run)
			cmd.Env = append(os.Environ(), brokenEnv+"="+how)
			out, err := cmd.CombinedOutput()
			if where == "" {
				if err != nil {
					t.Errorf("a sound backend fails: %v\n%s", err, out)
				}
				return
			}
			if err == nil || !strings.Contains(string(out), "FAIL: TestBroken/"+where) {
				t.Errorf("not found: %v\n%s", err, out)
			}
		})
	}
}
