package interop_test

import (
	"bytes"
	"context"
	_ "embed"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
)

//go:embed guest/readme.sh
var readmeScript string

// readme is README.md's section of that heading.
func readme(t *testing.T, heading string) string {
	t.Helper()
	b, err := os.ReadFile("../../README.md")
	if err != nil {
		t.Fatal(err)
	}
	_, text, ok := strings.Cut(string(b), "\n"+heading+"\n")
	if !ok {
		t.Fatalf("README.md has no section %q", heading)
	}
	if i := regexp.MustCompile(`(?m)^##+ `).FindStringIndex(text); i != nil {
		text = text[:i[0]]
	}
	return text
}

// clone makes a clean clone of this repository, as a new user has it.
func clone(t *testing.T) string {
	t.Helper()
	lab.NeedTools(t, "git", "make")
	dir := filepath.Join(t.TempDir(), "iserd")
	run(t, "git", "clone", "--quiet", "--no-hardlinks", "../..", dir)
	return dir
}

// background runs a shell command of a new user, in a clone, until the end of the
// test, and waits until something listens at addr.
func background(t *testing.T, n *lab.Net, dir, command, addr string) {
	t.Helper()
	cmd := exec.Command("bash", "-ec", command)
	var out bytes.Buffer
	cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
	cmd.Env = append(os.Environ(), "ISERD_CONSOLE=unix:"+filepath.Join(t.TempDir(), "c.sock"))
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if err := n.StartCommand(cmd); err != nil {
		t.Fatal(err)
	}
	gone := make(chan error, 1)
	go func() { gone <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGINT) // Ctrl-C
		select {
		case <-gone:
		case <-time.After(30 * time.Second):
			_ = syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
			<-gone
			t.Error("it does not stop by Ctrl-C")
		}
		if t.Failed() {
			t.Logf("%s\n%s", command, out.String())
		}
	})
	for end := time.Now().Add(3 * time.Minute); !n.Probe(addr); time.Sleep(50 * time.Millisecond) {
		select {
		case err := <-gone:
			gone <- err
			t.Fatalf("%s: %v", command, err)
		default:
		}
		if time.Now().After(end) {
			t.Fatalf("%s: nothing listens on %s", command, addr)
		}
	}
}

// What README.md says under "Try it" is what a new user can do, word for word, in a
// clean clone.
func TestREADMETryIt(t *testing.T) {
	lab.Gate(t)
	lab.NeedTools(t, "iscsi-ls", "qemu-img")
	text := readme(t, "## Try it")
	blocks := regexp.MustCompile(`(?m)(^    .*\n)+`).FindAllString(text, -1)
	if len(blocks) != 2 {
		t.Fatalf("%d blocks of commands, want 2:\n%s", len(blocks), text)
	}
	server, clients := lines(blocks[0]), lines(blocks[1])
	if !strings.HasPrefix(server[0], "make run ") || !strings.HasPrefix(server[1], "make test ") || len(clients) != 3 {
		t.Fatalf("the commands are others: %q, %q", server, clients)
	}
	n, dir := lab.NewNet(t), clone(t)
	background(t, n, dir, server[0], "127.0.0.1:3260")
	for i, want := range []string{`Lun:0 +Type:DIRECT_ACCESS`, `virtual size: 1 GiB`, `IOPS`} {
		cmd := exec.Command("bash", "-ec", clients[i])
		var out bytes.Buffer
		cmd.Dir, cmd.Stdout, cmd.Stderr = dir, &out, &out
		err := n.StartCommand(cmd)
		if err == nil {
			err = cmd.Wait()
		}
		if err != nil || !regexp.MustCompile(want).Match(out.Bytes()) {
			t.Errorf("%s: %v, want %q in\n%s", clients[i], err, want, out.String())
		}
	}
	page := regexp.MustCompile(`<(http://[^>]+)>`).FindStringSubmatch(text)
	if page == nil {
		t.Fatal("no web page is named")
	}
	browser := http.Client{Transport: &http.Transport{
		DisableKeepAlives: true,
		DialContext: func(_ context.Context, network, addr string) (c net.Conn, err error) {
			n.Do(func() { c, err = net.DialTimeout(network, addr, 10*time.Second) })
			return c, err
		},
	}}
	resp, err := browser.Get(page[1])
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		t.Errorf("%s: %s", page[1], resp.Status)
	}
}

func lines(block string) (out []string) {
	for l := range strings.Lines(block) {
		out = append(out, strings.TrimSpace(l))
	}
	return out
}

// From a clean clone to a mounted disk of the kernel's initiator, by the commands of
// README.md alone: only the server's address is put in.
func TestREADMEMountedDisk(t *testing.T) {
	lab.Gate(t)
	const example = "192.0.2.1"
	text := readme(t, "### A disk for another machine")
	blocks := regexp.MustCompile("(?s)```sh\n(.*?)```").FindAllStringSubmatch(text, -1)
	if len(blocks) != 3 || !strings.Contains(blocks[1][1], "server="+example) {
		t.Fatalf("%d blocks of commands, want 3, the second with server=%s:\n%s", len(blocks), example, text)
	}
	n, dir := lab.NewNet(t), clone(t)
	background(t, n, dir, blocks[0][1], lab.HostPort(lab.HostAddr, 3260))
	r := lab.Boot(t, n, lab.Guest{Script: readmeScript, Env: map[string]string{
		"MOUNT":   strings.Replace(blocks[1][1], example, lab.HostAddr, 1),
		"UNMOUNT": blocks[2][1],
	}})
	if !strings.Contains(r.Output, "lab: readme: done") {
		t.Errorf("the guest did not finish:\n%s", r.Output)
	}
}
