package main

import (
	"net"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
)

// TestUnitIsHardened asks systemd itself.
func TestUnitIsHardened(t *testing.T) {
	lab.NeedTools(t, "systemd-analyze")
	out, err := exec.Command("systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager", "../../contrib/systemd/iserd.service").CombinedOutput()
	if err != nil {
		t.Errorf("exposure above 2.0: %v\n%s", err, out)
	}
}

// TestNotify: what the service manager is told, and when.
func TestNotify(t *testing.T) {
	dir := t.TempDir()
	at := &net.UnixAddr{Name: filepath.Join(dir, "notify"), Net: "unixgram"}
	l, err := net.ListenUnixgram("unixgram", at)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	t.Setenv("NOTIFY_SOCKET", at.Name)
	t.Setenv("WATCHDOG_USEC", "100000")
	next := func(want string) {
		t.Helper()
		re := regexp.MustCompile(want)
		b := make([]byte, 4096)
		var seen []string
		_ = l.SetReadDeadline(time.Now().Add(patience))
		for {
			n, err := l.Read(b)
			if err != nil {
				t.Fatalf("no %s after %q: %v", want, seen, err)
			}
			seen = append(seen, string(b[:n]))
			if re.Match(b[:n]) {
				return
			}
		}
	}
	name := filepath.Join(dir, "iserd.hcl")
	text := strings.ReplaceAll(reloadA, "127.0.0.1:PORT", freePort(t))
	p := serve(t, portalLine, "-c", write(t, name, text))
	next(`^READY=1`)
	next(`^WATCHDOG=1`)
	p.signal(syscall.SIGHUP)
	next(`^RELOADING=1\nMONOTONIC_USEC=\d+$`)
	next(`^READY=1\nSTATUS=The configuration is in force`)
	write(t, name, "nonsense {")
	p.signal(syscall.SIGHUP)
	next(`^READY=1\nSTATUS=The old configuration is in force.*iserd.hcl:1:`)
	p.signal(syscall.SIGTERM)
	next(`^STOPPING=1`)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d\n%s", code, p.output())
	}
}
