package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// exitCodeOf returns the exit code that err tells, as text.
func exitCodeOf(err error) string {
	if e, ok := errors.AsType[*exec.ExitError](err); ok {
		return strconv.Itoa(e.ExitCode())
	}
	return err.Error()
}

// patience is how long a test waits for what should take milliseconds.
const patience = 20 * time.Second

// process is a daemon of a test.
type process struct {
	t    *testing.T
	cmd  *exec.Cmd
	addr string

	mu  sync.Mutex
	out bytes.Buffer // guarded by mu
	eof chan struct{}
}

var (
	demoLine   = regexp.MustCompile(`Listening on (\S+)\. `)
	portalLine = regexp.MustCompile(`portal is listening: .*address=(\S+)`)
)

// serve starts "iserd serve ARG…" and waits for a line that tells its address.
func serve(t *testing.T, line *regexp.Regexp, args ...string) *process {
	t.Helper()
	p := &process{t: t, cmd: exec.Command("iserd", append([]string{"serve"}, args...)...), eof: make(chan struct{})}
	r, w, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	p.cmd.Stdout, p.cmd.Stderr = w, w
	if err := p.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	w.Close()
	t.Cleanup(func() {
		_ = p.cmd.Process.Kill() // fails when it has ended, as it should have
		_ = p.cmd.Wait()
		<-p.eof
		r.Close()
	})
	found := make(chan string, 1)
	go p.collect(r, line, found)
	select {
	case p.addr = <-found:
	case <-p.eof:
		t.Fatalf("the daemon ended:\n%s", p.output())
	case <-time.After(patience):
		t.Fatalf("the daemon does not listen:\n%s", p.output())
	}
	return p
}

// collect keeps what the daemon prints and reports the first match of line.
func (p *process) collect(r *os.File, line *regexp.Regexp, found chan<- string) {
	defer close(p.eof)
	s := bufio.NewScanner(r)
	for s.Scan() {
		p.mu.Lock()
		p.out.Write(s.Bytes())
		p.out.WriteByte('\n')
		p.mu.Unlock()
		if m := line.FindStringSubmatch(s.Text()); m != nil {
			select {
			case found <- m[1]:
			default:
			}
		}
	}
}

func (p *process) output() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.out.String()
}

// waitFor waits until the daemon has printed text.
func (p *process) waitFor(text string) {
	p.t.Helper()
	for end := time.Now().Add(patience); !strings.Contains(p.output(), text); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			p.t.Fatalf("no %q in\n%s", text, p.output())
		}
	}
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

// wait returns the daemon's exit code.
func (p *process) wait() int {
	p.t.Helper()
	select {
	case <-p.eof: // its output is closed: it has ended
	case <-time.After(patience):
		p.t.Fatalf("the daemon does not end:\n%s", p.output())
	}
	_ = p.cmd.Wait() // the code says it
	return p.cmd.ProcessState.ExitCode()
}

// command runs a command line to its end.
func command(t *testing.T, args ...string) (out string, code string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	b, err := exec.CommandContext(ctx, "iserd", args...).CombinedOutput()
	if err != nil {
		return string(b), exitCodeOf(err)
	}
	return string(b), "0"
}

// readSome reads a few blocks from a logical unit.
func readSome(t *testing.T, addr, target string, more ...string) (out, code string) {
	t.Helper()
	args := append([]string{"bench", "--count", "20", "--ramp", "0s", "--no-progress"}, more...)
	return command(t, append(args, fmt.Sprintf("iscsi://%s/%s/0", addr, target))...)
}

func TestServeDemo(t *testing.T) {
	p := serve(t, demoLine, "--demo", "--listen", "127.0.0.1:0")
	if out, code := readSome(t, p.addr, demoTarget); code != "0" {
		t.Errorf("reading fails with %s:\n%s", code, out)
	}
	p.signal(syscall.SIGHUP)
	p.waitFor("configuration applied")
	if out, code := readSome(t, p.addr, demoTarget); code != "0" {
		t.Errorf("reading after SIGHUP fails with %s:\n%s", code, out)
	}
	// A second daemon on the same port says what to do.
	out, code := command(t, "serve", "--demo", "--listen", p.addr)
	if code != "6" || !strings.Contains(out, "in use") || !strings.Contains(out, "ss -ltnp") {
		t.Errorf("a second daemon ends with %s:\n%s", code, out)
	}
	p.signal(syscall.SIGTERM)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d after SIGTERM:\n%s", code, p.output())
	}
	p.waitFor("stopped")
}

func TestServeDemoInterrupt(t *testing.T) {
	p := serve(t, demoLine, "--demo", "--listen", "[::1]:0")
	p.signal(syscall.SIGINT)
	if code := p.wait(); code != 0 {
		t.Errorf("exit code %d after SIGINT:\n%s", code, p.output())
	}
}

// freePort returns a port that is free now.
func freePort(t *testing.T) string {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	return l.Addr().String()
}

func write(t *testing.T, name, text string) string {
	t.Helper()
	if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return name
}

// TestServeConfig serves a file to CHAP users, restarts, and serves the same data.
func TestServeConfig(t *testing.T) {
	dir := t.TempDir()
	secret := write(t, filepath.Join(dir, "secret"), "canary-of-serve\n")
	wrong := write(t, filepath.Join(dir, "wrong"), "something-else\n")
	addr := freePort(t)
	const target = "iqn.2026-11.com.example:file"
	conf := write(t, filepath.Join(dir, "iserd.hcl"), fmt.Sprintf(`
node { name = "gw1" }
log {
  level  = "debug"
  format = "text"
}
auth "users" {
  type       = "chap"
  algorithms = ["MD5", "SHA-256"]
  user "joe" { secret = file(%q) }
}
portal_group "lan" {
  tag            = 7
  discovery_auth = "users"
  portal %q {}
}
backend "file" "disk" {
  path   = %q
  size   = "16MiB"
  create = true
}
target %q {
  auth = "users"
  session { max_burst_length = "256KiB" }
  lun "0" {
    backend    = backend.file.disk
    block_size = 4096
    serial     = "SERIAL0001"
    naa        = "naa.3000000000000001"
    thin       = true
    filter "stats" {}
    filter "delay" { read = "1us" }
  }
}
`, secret, addr, filepath.Join(dir, "disk.img"), target))
	if out, code := command(t, "check", conf); code != "0" {
		t.Fatalf("check: %s\n%s", code, out)
	}
	login := []string{"--chap-user", "joe", "--chap-secret-file", secret}
	for range 2 {
		p := serve(t, portalLine, "--config", conf)
		if out, code := readSome(t, addr, target, login...); code != "0" {
			t.Errorf("reading fails with %s:\n%s\n%s", code, out, p.output())
		}
		if out, code := readSome(t, addr, target); code == "0" {
			t.Errorf("reading without CHAP works:\n%s", out)
		}
		if out, code := readSome(t, addr, target, "--chap-user", "joe", "--chap-secret-file", wrong); code == "0" {
			t.Errorf("reading with a wrong secret works:\n%s", out)
		}
		// A second daemon on the same file, elsewhere on the network.
		text, err := os.ReadFile(conf)
		if err != nil {
			t.Fatal(err)
		}
		other := write(t, filepath.Join(dir, "other.hcl"), strings.Replace(string(text), addr, freePort(t), 1))
		if out, code := command(t, "serve", "--config", other); code != "6" || !strings.Contains(out, "in use") {
			t.Errorf("a second daemon on the file ends with %s:\n%s", code, out)
		}
		p.signal(syscall.SIGTERM)
		if code := p.wait(); code != 0 {
			t.Errorf("exit code %d:\n%s", code, p.output())
		}
		if strings.Contains(p.output(), "canary") {
			t.Errorf("the secret is in the log:\n%s", p.output())
		}
		if !strings.Contains(p.output(), "op=read") {
			t.Errorf("the stats filter's counters are not in the log:\n%s", p.output())
		}
		if !strings.Contains(p.output(), "node=gw1") {
			t.Errorf("the node's name is not in the log:\n%s", p.output())
		}
	}
}

func TestServeRefuses(t *testing.T) {
	dir := t.TempDir()
	const disk = "\nbackend \"memory\" \"m\" { size = \"1MiB\" }\ntarget \"iqn.2026-11.com.example:t\" {\ninsecure = true\nlun \"0\" { backend = backend.memory.m }\n}\n"
	tests := []struct{ name, conf, code, want string }{
		{"an invalid configuration", "nonsense = 1", "3", "nothing was started"},
		{"an address of another host", "portal_group \"a\" {\ntag = 1\nportal \"192.0.2.1:3260\" {}\n}" + disk, "1", "not an address of this host"},
		{"a log file that cannot be", "log { output = \"file:" + dir + "/no/such/dir\" }\nportal_group \"a\" {\ntag = 1\nportal \"" + freePort(t) + "\" {}\n}" + disk, "1", "no such file or directory"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			conf := write(t, filepath.Join(dir, "iserd.hcl"), tt.conf)
			out, code := command(t, "serve", "--config", conf)
			if code != tt.code || !strings.Contains(out, tt.want) {
				t.Errorf("exit code %s, want %s; %q wanted in\n%s", code, tt.code, tt.want, out)
			}
		})
	}
}
