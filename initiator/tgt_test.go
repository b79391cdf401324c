package initiator_test

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"testing"
	"time"
)

// A tgtServer is Debian's tgtd, the reference target of these tests.
type tgtServer struct {
	t       *testing.T
	addr    string
	control string
}

const tgtTarget = "iqn.2026-11.com.example:tgt"

// startTgt starts a tgtd with one target that everybody may use, LUN 1 being a
// file of size bytes.
func startTgt(t *testing.T, size int64) *tgtServer {
	t.Helper()
	for _, tool := range []string{"tgtd", "tgtadm"} {
		if _, err := exec.LookPath(tool); err != nil {
			if os.Getenv("CI") != "" {
				t.Fatalf("needs %s", tool)
			}
			t.Skipf("needs %s", tool)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().(*net.TCPAddr)
	_ = l.Close()
	s := &tgtServer{t: t, addr: addr.String(), control: strconv.Itoa(10000 + addr.Port%20000)}
	cmd := exec.Command("tgtd", "-f", "--iscsi", "portal="+s.addr, "-C", s.control)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	for i := 0; ; i++ {
		if c, err := net.Dial("tcp", s.addr); err == nil {
			_ = c.Close()
			break
		}
		if i == 100 {
			t.Fatal("tgtd does not listen")
		}
		time.Sleep(50 * time.Millisecond)
	}
	file := filepath.Join(t.TempDir(), "disk")
	f, err := os.Create(file)
	if err == nil {
		err = f.Truncate(size)
	}
	if err != nil {
		t.Fatal(err)
	}
	_ = f.Close()
	s.adm("--op", "new", "--mode", "target", "--tid", "1", "-T", tgtTarget)
	s.adm("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", file)
	s.adm("--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL")
	return s
}

func (s *tgtServer) adm(args ...string) {
	s.t.Helper()
	args = append([]string{"-C", s.control, "--lld", "iscsi"}, args...)
	if out, err := exec.Command("tgtadm", args...).CombinedOutput(); err != nil {
		s.t.Fatalf("tgtadm %v: %v\n%s", args, err, out)
	}
}

func (s *tgtServer) url(lun int) string {
	return fmt.Sprintf("iscsi://%s/%s/%d", s.addr, tgtTarget, lun)
}

func testContext(t *testing.T) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	t.Cleanup(cancel)
	return ctx
}
