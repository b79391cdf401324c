package web_test

import (
	"context"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

// token is the secret of the http block.
const token = "a token of operators 0123456789"

// daemon is an iserd with a page.
type daemon struct {
	t        *testing.T
	dir      string
	page     string // URL of the page
	portal   string
	api      *api.Client
	cmd      *exec.Cmd
	ended    chan struct{}
	pagePort int
	secret   string // of the http block; empty: none
}

// serve starts a daemon whose configuration is text and an http block. With
// operators set that has a secret.
func serve(t *testing.T, text string, operators bool) *daemon {
	t.Helper()
	lab.Gate(t)
	d := &daemon{t: t, dir: t.TempDir(), pagePort: lab.FreePort(t)}
	if operators {
		d.secret = token
	}
	d.page = fmt.Sprintf("http://127.0.0.1:%d/", d.pagePort)
	d.portal = lab.HostPort("127.0.0.1", lab.FreePort(t))
	d.write(text)
	d.start()
	t.Cleanup(func() {
		d.stop()
		log, err := os.ReadFile(filepath.Join(d.dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		if s := string(log); t.Failed() || strings.Contains(s, "DATA RACE") || strings.Contains(s, "fatal error:") {
			t.Errorf("the daemon's log:\n%s", s)
		}
	})
	c, err := api.NewClient("unix:"+filepath.Join(d.dir, "console.sock"), nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(c.Close)
	d.api = c
	return d
}

// write writes the configuration. PORTAL in text is the portal's address.
func (d *daemon) write(text string) {
	d.t.Helper()
	secret := ""
	if d.secret != "" {
		secret = fmt.Sprintf("  secret = %q\n", d.secret)
	}
	text = fmt.Sprintf("node { name = \"gw1\" }\nconsole {\n  listen = \"unix:%s/console.sock\"\n  fault_injection = true\n}\nhttp {\n  listen = \"127.0.0.1:%d\"\n%s}\n",
		d.dir, d.pagePort, secret) + strings.ReplaceAll(text, "PORTAL", d.portal)
	if err := os.WriteFile(filepath.Join(d.dir, "iserd.hcl"), []byte(text), 0o600); err != nil {
		d.t.Fatal(err)
	}
}

func (d *daemon) start() {
	d.t.Helper()
	bin, err := target.Binary()
	if err != nil {
		d.t.Fatal(err)
	}
	log, err := os.OpenFile(filepath.Join(d.dir, "log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		d.t.Fatal(err)
	}
	defer log.Close()
	d.cmd = exec.Command(bin, "serve", "--config", filepath.Join(d.dir, "iserd.hcl"))
	d.cmd.Stdout, d.cmd.Stderr = log, log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.cmd.Start(); err != nil {
		d.t.Fatal(err)
	}
	ended := make(chan struct{})
	d.ended = ended
	go func(cmd *exec.Cmd) {
		_ = cmd.Wait()
		close(ended)
	}(d.cmd)
	for begin := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		if resp, err := http.Get(d.page + "healthz"); err == nil {
			resp.Body.Close()
			return
		}
		select {
		case <-ended:
			text, _ := os.ReadFile(log.Name())
			d.t.Fatalf("the daemon ended: %v\n%s", d.cmd.ProcessState, text)
		default:
		}
		if time.Since(begin) > 20*time.Second {
			d.t.Fatal("the daemon does not serve its page")
		}
	}
}

func (d *daemon) stop() {
	_ = d.cmd.Process.Signal(syscall.SIGTERM)
	select {
	case <-d.ended:
	case <-time.After(20 * time.Second):
		_ = d.cmd.Process.Kill()
		d.t.Error("the daemon did not stop")
	}
}

// login connects an initiator of that name.
func (d *daemon) login(name, target string) *initiator.Session {
	d.t.Helper()
	s, err := d.tryLogin(name, target)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { _ = s.Close() })
	return s
}

func (d *daemon) tryLogin(name, target string) (*initiator.Session, error) {
	ctx, cancel := context.WithTimeout(d.t.Context(), 10*time.Second)
	defer cancel()
	u, err := initiator.ParseURL(fmt.Sprintf("iscsi://%s/%s/0", d.portal, target))
	if err != nil {
		return nil, err
	}
	return initiator.Connect(ctx, u, func(o *initiator.Options) { o.InitiatorName = name })
}

// load reads and writes n blocks of 512 bytes with some commands in flight, until
// the test ends.
func (d *daemon) load(s *initiator.Session, inFlight int, read bool, blocks uint16, pause time.Duration) {
	ctx, cancel := context.WithCancel(d.t.Context())
	done := make(chan struct{})
	work := func(k int) {
		defer func() { done <- struct{}{} }()
		cdb := []byte{0x28, 0, 0, 0, byte(k), 0, 0, byte(blocks >> 8), byte(blocks), 0}
		size := int(blocks) * 512
		var data []byte
		if !read {
			cdb[0], data, size = 0x2a, make([]byte, size), 0
		}
		for i := 0; ctx.Err() == nil; i++ {
			cdb[4] = byte(i * 7)
			if _, err := s.Exec(ctx, 0, cdb, data, size); err != nil {
				return
			}
			time.Sleep(pause)
		}
	}
	for k := range inFlight {
		go work(k)
	}
	d.t.Cleanup(func() {
		cancel()
		_ = s.Close()
		for range inFlight {
			<-done
		}
	})
}

// httpURL is the address of the page's host, for comparisons.
func (d *daemon) host() string { return net.JoinHostPort("127.0.0.1", fmt.Sprint(d.pagePort)) }
