package vmlab_test

import (
	"net"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/vmlab"
)

// The lab's own promise: a script's output and status come back, and the guest
// reaches the host's loopback.
func TestGuest(t *testing.T) {
	vmlab.Gate(t)
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			conn, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = conn.Write([]byte("hello from the host\n"))
			_ = conn.Close()
		}
	}()
	_, port, _ := net.SplitHostPort(l.Addr().String())
	r := vmlab.Start(t, vmlab.Guest{
		Env: map[string]string{"WHAT": "me, o'k", "PORT": port},
		Script: `
			echo "it's $WHAT on $(uname -s)"
			net_user
			bash -c 'exec 3<>/dev/tcp/'$HOST/$PORT'; cat <&3'
			echo result >/lab/result
			exit 3`,
	}).Wait()
	if r.Status != 3 {
		t.Errorf("status %d, want 3", r.Status)
	}
	for _, want := range []string{"it's me, o'k on Linux", "hello from the host"} {
		if !strings.Contains(r.Output, want) {
			t.Errorf("output lacks %q:\n%s", want, r.Output)
		}
	}
	if bad := r.Trouble(); len(bad) > 0 {
		t.Errorf("kernel: %q", bad)
	}
}

// The native verbs provider passes its acceptance suite between two soft-RoCE
// devices on a wire.
func TestVerbs(t *testing.T) {
	vmlab.Gate(t)
	for kernel, flags := range map[vmlab.Kernel][]string{vmlab.Kernel61: nil, vmlab.Kernel612: {"-race"}} {
		t.Run(string(kernel), func(t *testing.T) {
			share := t.TempDir()
			vmlab.BuildTest(t, filepath.Join(share, "native.test"), "github.com/iserd/iserd/iser/verbs/native", flags...)
			r := vmlab.Boot(t, vmlab.Guest{
				Kernel:  kernel,
				Share:   share,
				Timeout: 6 * time.Minute,
				Env:     map[string]string{"ISERD_VERBS_TARGET": "10.98.0.1", "ISERD_VERBS_INITIATOR": "10.98.0.2", "ISERD_VERBS_NETDEV": "wire0"},
				Script: `
					rxe_up $ISERD_VERBS_TARGET $ISERD_VERBS_INITIATOR
					/lab/native.test -test.v -test.timeout 4m -test.run TestVerbs
					rxe_counters
					/lab/native.test -test.v -test.timeout 80s -test.run TestRemoval
					say "the same with the only device"
					rdma link delete rxe1
					ISERD_VERBS_INITIATOR=$ISERD_VERBS_TARGET /lab/native.test -test.v -test.timeout 80s -test.run TestRemoval`,
			})
			if bad := r.Trouble(); len(bad) > 0 {
				t.Errorf("kernel: %q", bad)
			}
			passed := strings.Count(r.Output, "--- PASS: TestVerbs/")
			t.Log(strconv.Itoa(passed) + " tests of the suite passed")
			if passed < 25 || strings.Count(r.Output, "--- PASS: TestRemoval ") != 2 {
				t.Error("the suite did not run")
			}
		})
	}
}
