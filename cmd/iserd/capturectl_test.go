package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/internal/pcapng"
)

// command runs a command line against the daemon in this process.
func (r *rig) command(args ...string) (stdout, stderr string, code int) {
	r.t.Helper()
	r.t.Setenv(consoleEnv, r.at)
	var out, errs bytes.Buffer
	code = run(args, &out, &errs)
	return out.String(), errs.String(), code
}

// TestCaptureCommand: the command writes whole blocks and says how many packets
// there are.
func TestCaptureCommand(t *testing.T) {
	r := newRig(t, reloadA)
	r.open(config.Console{}, nil)
	file := filepath.Join(t.TempDir(), "c.pcapng")
	done := make(chan struct{})
	go func() {
		defer close(done)
		// The command begins at some time: there is always something to capture.
		for end := time.Now().Add(time.Second); time.Now().Before(end); {
			r.connect("iqn.2026-11.com.example:still").Close()
		}
	}()
	out, errs, code := r.command("capture", "-w", file, "--duration", "700ms", "--target", "iqn.2026-11.com.example:still", "-o", "json")
	<-done
	var sum captured
	if err := json.Unmarshal([]byte(out), &sum); err != nil || code != 0 || errs != "" {
		t.Fatalf("%d %v\n%s%s", code, err, out, errs)
	}
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	packets := uint64(0)
	for in := bytes.NewReader(b); in.Len() > 0; {
		kind, _, err := pcapng.ReadBlock(in, nil)
		if err != nil {
			t.Fatal(err)
		}
		if kind == pcapng.TypePacket {
			packets++
		}
	}
	if packets < 10 || packets != sum.Packets || sum.Bytes != uint64(len(b)) {
		t.Errorf("%+v, but %d packets in %d bytes", sum, packets, len(b))
	}
	if info, err := os.Stat(file); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
}

// TestCaptureRefused: what cannot be captured is said before there is a file.
func TestCaptureRefused(t *testing.T) {
	r := newRig(t, reloadA+"console { capture = false }\n")
	r.open(config.Console{}, nil)
	file := filepath.Join(t.TempDir(), "c.pcapng")
	for _, x := range []struct {
		args []string
		code int
		want string
	}{
		{nil, exitRuntime, "console { capture = false }"},
		{[]string{"--session", "0x0777"}, exitNotFound, "no session"},
		{[]string{"--target", "iqn.2026-11.com.example:none"}, exitNotFound, "no target"},
		{[]string{"--session", "x"}, exitUsage, "not a number"},
	} {
		_, errs, code := r.command(append([]string{"capture", "-w", file}, x.args...)...)
		if code != x.code || !strings.Contains(errs, x.want) {
			t.Errorf("%v: %d %s", x.args, code, errs)
		}
	}
	if _, err := os.Stat(file); err == nil {
		t.Error("there is a file")
	}
}
