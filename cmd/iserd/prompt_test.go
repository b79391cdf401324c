package main

import (
	"bytes"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"
	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/console"
)

func TestSplitLine(t *testing.T) {
	for line, want := range map[string][]string{
		"":                             nil,
		"  lun  ls\t":                  {"lun", "ls"},
		`a "b c" 'd "e' f\ g h"i"`:     {"a", "b c", `d "e`, "f g", "hi"},
		`""`:                           {""},
		"ls # a comment":               {"ls"},
		"a#b":                          {"a#b"},
		`'\' "\""`:                     {`\`, `"`},
		"lun show iqn.2026-11.com.x:a": {"lun", "show", "iqn.2026-11.com.x:a"},
	} {
		got, err := splitLine(line)
		if d := cmp.Diff(want, got); d != "" || err != nil {
			t.Errorf("%q: %v %s", line, err, d)
		}
	}
	for _, line := range []string{`"a`, `a'`, `a\`} {
		if _, err := splitLine(line); err == nil {
			t.Errorf("%q is taken", line)
		}
	}
}

// batch gives lines to "iserd console".
func (r *rig) batch(lines string, args ...string) (out, errs string, code int) {
	r.t.Helper()
	r.t.Setenv(consoleEnv, r.at)
	var o, e bytes.Buffer
	started := false
	root := newRoot(&started)
	root.SetIn(strings.NewReader(lines))
	code = execute(r.t.Context(), root, &started, append([]string{"console"}, args...), &o, &e)
	return o.String(), e.String(), code
}

// TestConsoleBatch: lines are run in turn; the first that fails ends the console
// with its exit code.
func TestConsoleBatch(t *testing.T) {
	r := newRig(t, reloadA)
	r.open(config.Console{}, nil)
	out, errs, code := r.batch("# what there is\n\ntarget ls\niserd session ls\nexit\nnonsense\n")
	if code != 0 || errs != "" || !strings.Contains(out, "iqn.2026-11.com.example:still") || !strings.Contains(out, "no sessions") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
	out, errs, code = r.batch("status\nlun show iqn.2026-11.com.example:still/9\nls\n")
	if code != exitNotFound || !strings.Contains(errs, "line 2 failed") || strings.Contains(out, "portals\n├") {
		t.Errorf("%d %s\n%s", code, errs, out)
	}
	for lines, want := range map[string]int{"frobnicate": exitUsage, "serve --demo": exitUsage, `lun "show`: exitUsage, "target show x": exitNotFound} {
		if _, errs, code := r.batch(lines); code != want || errs == "" {
			t.Errorf("%s: %d %s", lines, code, errs)
		}
	}
	out, _, code = r.batch("target ls", "-o", "json")
	if code != 0 || !strings.HasPrefix(out, "[") {
		t.Errorf("%d %s", code, out)
	}
	r.at = "unix:" + filepath.Join(t.TempDir(), "none")
	if _, errs, code := r.batch("status"); code != exitNotUp || !strings.Contains(errs, "no daemon") {
		t.Errorf("%d %s", code, errs)
	}
}

// TestCompletion: commands, options and the names of what there is.
func TestCompletion(t *testing.T) {
	r := newRig(t, reloadA)
	r.open(config.Console{}, nil)
	t.Setenv(consoleEnv, r.at)
	s := r.connect("iqn.2026-11.com.example:still")
	defer s.Close()
	sh := &shell{link: &link{at: r.at}, flags: newConsole().Flags()}
	texts := func(all []console.Candidate) (out []string) {
		for _, c := range all {
			out = append(out, c.Text)
		}
		return out
	}
	for line, want := range map[string][]string{
		"sta":                                   {"status"},
		"lun sh":                                {"show"},
		"target show iqn":                       {"iqn.2026-11.com.example:changes", "iqn.2026-11.com.example:still"},
		"lun show ":                             {"iqn.2026-11.com.example:changes/0", "iqn.2026-11.com.example:still/0"},
		"lun resize iqn.2026-11.com.example:st": {"iqn.2026-11.com.example:still/0"},
		"session logout ":                       {"0x0001"},
		"trace --session ":                      {"0x0001"},
		"capture --initiator iqn":               {"iqn.2026-11.io.github.iserd:initiator"},
		"trace --lun iqn.2026-11.com.example:c": {"iqn.2026-11.com.example:changes/0"},
		"actors node/portal":                    {"node/portal-" + r.addr},
		"actors restart node/sess":              {"node/sessions", "node/sessions/conn-1", "node/sessions/session-0001"},
		"status -o ":                            {"text", "json"},
		"lun attach --ki":                       {"--kind"},
		"target create ":                        nil,
		"serve":                                 nil,
	} {
		got := texts(sh.complete(t.Context(), line))
		if line == "target create " {
			got = nil // files
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Errorf("%q: %s", line, d)
		}
	}
	dir := t.TempDir()
	write(t, filepath.Join(dir, "some.pcapng"), "")
	if got := texts(sh.complete(t.Context(), "capture -w "+dir+"/so")); !cmp.Equal(got, []string{dir + "/some.pcapng"}) {
		t.Errorf("files: %v", got)
	}
	sh.link.at = "unix:/nonexistent"
	t.Setenv(consoleEnv, sh.link.at)
	if got := sh.complete(t.Context(), "lun show "); got != nil {
		t.Errorf("without a daemon: %v", got)
	}
}

// terminal is a program on a pseudo terminal.
type terminal struct {
	t    *testing.T
	ptm  *os.File
	cmd  *exec.Cmd
	done chan struct{}

	mu  sync.Mutex
	buf bytes.Buffer // guarded by mu
}

func onTerminal(t *testing.T, env []string, args ...string) *terminal {
	t.Helper()
	ptm, err := os.OpenFile("/dev/ptmx", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil && os.Getenv("CI") == "" {
		t.Skip("needs pseudo terminals")
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { ptm.Close() })
	if err := unix.IoctlSetPointerInt(int(ptm.Fd()), unix.TIOCSPTLCK, 0); err != nil {
		t.Fatal(err)
	}
	if err := unix.IoctlSetWinsize(int(ptm.Fd()), unix.TIOCSWINSZ, &unix.Winsize{Row: 24, Col: 100}); err != nil {
		t.Fatal(err)
	}
	n, err := unix.IoctlGetInt(int(ptm.Fd()), unix.TIOCGPTN)
	if err != nil {
		t.Fatal(err)
	}
	pts, err := os.OpenFile("/dev/pts/"+number(uint16(n)), os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	x := &terminal{t: t, ptm: ptm, cmd: exec.Command("iserd", args...), done: make(chan struct{})}
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = pts, pts, pts
	x.cmd.Env = append(os.Environ(), env...)
	x.cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true, Setctty: true}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	pts.Close()
	t.Cleanup(func() {
		_ = x.cmd.Process.Kill() // fails when it has ended, as it should have
		_ = x.cmd.Wait()
		<-x.done
	})
	go x.collect()
	return x
}

func (x *terminal) collect() {
	defer close(x.done)
	b := make([]byte, 4096)
	for {
		n, err := x.ptm.Read(b)
		if err != nil {
			return // EIO: the other end is gone
		}
		x.mu.Lock()
		x.buf.Write(b[:n])
		x.mu.Unlock()
	}
}

// expect waits for text, and forgets what came up to it.
func (x *terminal) expect(text string) {
	x.t.Helper()
	for end := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		x.mu.Lock()
		s := x.buf.String()
		i := strings.Index(s, text)
		if i >= 0 {
			x.buf.Next(i + len(text))
		}
		x.mu.Unlock()
		if i >= 0 {
			return
		}
		if time.Now().After(end) {
			x.t.Fatalf("no %q in %q", text, s)
		}
	}
}

func (x *terminal) send(keys string) {
	x.t.Helper()
	if _, err := x.ptm.WriteString(keys); err != nil {
		x.t.Fatal(err)
	}
}

// TestConsoleTerminal drives the prompt as a user does.
func TestConsoleTerminal(t *testing.T) {
	r := newRig(t, reloadA+"node { name = \"gw1\" }\n")
	r.open(config.Console{}, nil)
	state := t.TempDir()
	x := onTerminal(t, []string{consoleEnv + "=" + r.at, "XDG_STATE_HOME=" + state, "TERM=xterm-256color"}, "console")
	x.expect("Ctrl-D leaves")
	x.expect("gw1> ")
	x.send("targ\tls\r")
	x.expect("iqn.2026-11.com.example:still")
	x.expect("gw1> ")
	x.send("nonsense\r")
	x.expect(`unknown command "nonsense"`)
	x.expect("gw1> ")
	x.send("half a li\x03") // Ctrl-C gives the line up
	x.expect("^C")
	x.expect("gw1> ")
	x.send("trace\r")
	x.expect("BACKEND")
	x.send("\x03") // Ctrl-C ends the command
	x.expect("gw1> ")
	x.send("\x1b[A") // the line before
	x.expect("trace")
	x.send("\x15\x04") // Ctrl-U, Ctrl-D
	<-x.done
	if err := x.cmd.Wait(); err != nil {
		t.Error(err)
	}
	b, err := os.ReadFile(filepath.Join(state, "iserd", "history"))
	if err != nil || string(b) != "target ls\nnonsense\ntrace\n" {
		t.Errorf("%q %v", b, err)
	}
}

// FuzzSplitLine: words that are quoted come back as they are.
func FuzzSplitLine(f *testing.F) {
	f.Add(`a "b c" 'd' \e # f`)
	f.Fuzz(func(t *testing.T, line string) {
		words, err := splitLine(line)
		if err != nil || !utf8.ValidString(line) {
			return
		}
		var quoted []string
		for _, w := range words {
			quoted = append(quoted, `'`+strings.ReplaceAll(w, `'`, `'\''`)+`'`)
		}
		again, err := splitLine(strings.Join(quoted, " "))
		if err != nil || !cmp.Equal(words, again) {
			t.Errorf("%q: %q, then %q %v", line, words, again, err)
		}
	})
}
