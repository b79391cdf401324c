package vmlab_test

import (
	"bufio"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/conformance"
	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/vmlab"
)

// libiscsiTarget has the units that the suite needs, as over TCP (test/conformance).
// libiscsi announces immediate data and sends none.
const libiscsiTarget = `
log {
  level = "warn"
}
portal_group "rdma" {
  tag = 1
  portal "10.98.0.1:3260" { transport = "iser" }
}
backend "memory" "thin" { size = "128MiB" }
backend "memory" "protected" { size = "128MiB" }
backend "memory" "removable" { size = "128MiB" }
backend "file" "file" {
  path   = "/var/tmp/disk"
  size   = "128MiB"
  create = true
}
target "iqn.2026-11.com.example:vm" {
  insecure = true
  session { immediate_data = false }
  lun "0" {
    backend = backend.memory.thin
    thin    = true
  }
  lun "1" {
    backend   = backend.memory.protected
    thin      = true
    read_only = true
  }
  lun "2" {
    backend   = backend.memory.removable
    thin      = true
    removable = true
  }
  lun "3" {
    backend = backend.file.file
    thin    = true
  }
}
`

// libiscsiExpected has the tests of the suite that do not pass over iSER, with their
// reasons.
const libiscsiExpected = "testdata/libiscsi.txt"

// libiscsi's conformance suite over iSER, each test in a process of its own: what
// passes over TCP passes here, but for what libiscsi itself can't do.
func TestISERLibiscsi(t *testing.T) {
	vmlab.Gate(t)
	share := t.TempDir()
	shareDaemon(t, share)
	nofree, err := os.ReadFile("guest/nofree.c")
	if err != nil {
		t.Fatal(err)
	}
	lab.BuildPreload(t, filepath.Join(share, "nofree.so"), string(nofree))
	r := vmlab.Boot(t, vmlab.Guest{
		Share: share, Timeout: 20 * time.Minute,
		Env: map[string]string{"CONFIG": libiscsiTarget, "URL": "iser://10.98.0.1:3260/iqn.2026-11.com.example:vm"},
		Script: `
			rxe_up 10.98.0.1 10.98.0.2
			iserd_start
			mkdir /lab/suite
			# LIBISCSI_CACHE_ALLOCATIONS: it mixes two kinds of memory up otherwise.
			export LIBISCSI_CACHE_ALLOCATIONS=0
			for test in $(iscsi-test-cu --list | sed -n 's/^ *ALL\.\([A-Za-z0-9]*\.\)/\1/p'); do
				second=
				case $test in
				Sanitize.Reset) continue ;; # wants a slow unit; takes two minutes
				ReadOnly.*) unit=1 ;;
				PreventAllow.* | StartStopUnit.* | NoMedia.*) unit=2 ;;
				*.InvalidDataOutSize | *.UnmapUnaligned) unit=3 ;;
				MultipathIO.*) unit=0 second=$URL/0 ;;
				*) unit=0 ;;
				esac
				naks=$(rnr_naks)
				# It takes a second without an answer for an error, which may be the machine's.
				for try in 1 2; do
					LD_PRELOAD=/lab/nofree.so timeout 30 iscsi-test-cu -d -S -v -t ALL.$test $URL/$unit $second >/lab/suite/$test 2>&1 || true
					grep -q 'revents is not POLLIN' /lab/suite/$test || break
				done
				case $test in
				*Async) ;; # these send all they have, whatever MaxCmdSN says
				*) [ "$(rnr_naks)" = $naks ] || fail "$test: RNR NAK: a receive was missing" ;;
				esac
			done
			iserd_stop`,
	})
	if bad := r.Trouble(); len(bad) > 0 {
		t.Errorf("kernel: %q", bad)
	}
	want := readReasons(t)
	files, err := os.ReadDir(filepath.Join(share, "suite"))
	if err != nil || len(files) < 200 {
		t.Fatalf("%d tests, want at least 200: %v", len(files), err)
	}
	sum := map[conformance.Outcome]int{}
	for _, f := range files {
		text, err := os.ReadFile(filepath.Join(share, "suite", f.Name()))
		if err != nil {
			t.Fatal(err)
		}
		got := conformance.NoEnd
		for _, r := range conformance.ParseCUnit(string(text)) {
			got = r.Outcome
		}
		sum[got]++
		expected, listed := want[f.Name()]
		if !listed {
			expected = conformance.Passed
		}
		delete(want, f.Name())
		if !got.Among(expected) {
			t.Errorf("%s: %s, want %s\n%s", f.Name(), got, expected, text)
		}
	}
	for name := range want {
		t.Errorf("%s: in %s, but not in the suite", name, libiscsiExpected)
	}
	t.Logf("%d tests: %v", len(files), sum)
}

// readReasons reads lines of a test's name, its outcome and the reason.
func readReasons(t *testing.T) map[string]conformance.Outcome {
	t.Helper()
	f, err := os.Open(libiscsiExpected)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	want := map[string]conformance.Outcome{}
	for s := bufio.NewScanner(f); s.Scan(); {
		fields := strings.Fields(s.Text())
		if len(fields) == 0 || strings.HasPrefix(fields[0], "#") {
			continue
		}
		if len(fields) < 3 {
			t.Fatalf("%s: %q is not NAME OUTCOME REASON", libiscsiExpected, s.Text())
		}
		want[fields[0]] = conformance.Outcome(fields[1])
	}
	return want
}
