package lab_test

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
)

// The lab's own promise: a script's output and status come back, the guest
// reaches the host, and signals and lines pass while it runs.
func TestGuest(t *testing.T) {
	lab.Gate(t)

	t.Run("output and status", func(t *testing.T) {
		t.Parallel()
		r := lab.Boot(t, nil, lab.Guest{Script: `echo "it's $WHAT on $(uname -s)"`, Env: map[string]string{"WHAT": "me, o'k"}})
		if !strings.Contains(r.Output, "it's me, o'k on Linux") {
			t.Errorf("output lacks the script's line:\n%s", r.Output)
		}
	})
	t.Run("failing command ends the script", func(t *testing.T) {
		t.Parallel()
		r := lab.Start(t, nil, lab.Guest{Script: "false\necho not reached"}).Wait()
		if r.Status != 1 || strings.Contains(r.Output, "not reached") {
			t.Errorf("status %d, want 1:\n%s", r.Status, r.Output)
		}
	})
	t.Run("network and signals", func(t *testing.T) {
		t.Parallel()
		n := lab.NewNet(t)
		vm := lab.Start(t, n, lab.Guest{Script: "say waiting\nwhile [ ! -e /lab/go ]; do sleep 0.1; done\nip route get $HOST", Env: map[string]string{"HOST": lab.HostAddr}})
		vm.WaitLine("lab: waiting", time.Minute)
		vm.Signal("go")
		if r := vm.Wait(); r.Status != 0 || !strings.Contains(r.Output, "dev vec0") {
			t.Errorf("status %d:\n%s", r.Status, r.Output)
		}
	})
}

// A guest runs on a machine whose registers are more than its kernel knows, as
// with AMX, and computes right there.
func TestGuestOnWideMachine(t *testing.T) {
	lab.Gate(t)
	source, err := os.ReadFile("testdata/widehost.c")
	if err != nil {
		t.Fatal(err)
	}
	so := filepath.Join(t.TempDir(), "widehost.so")
	lab.BuildPreload(t, so, string(source))
	t.Setenv("LD_PRELOAD", so)
	r := lab.Boot(t, nil, lab.Guest{Script: "seq 300000 | sha256sum & seq 300000 | sha256sum; wait"})
	const sum = "a036031249164ec858e23450a91585ae7dcb73d481105832ca33813da893233f"
	if n := strings.Count(r.Output, sum); n != 2 {
		t.Errorf("%d of two checksums are right:\n%s", n, r.Output)
	}
}
