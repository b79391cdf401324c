package main

import (
	"errors"
	"fmt"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// TestReloadConsole: a reload that came by the console moves the console and http,
// is answered, and leaves both where they were when one of them cannot move.
func TestReloadConsole(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "1.sock"), filepath.Join(dir, "2.sock")
	ports := []string{freePort(t), freePort(t)}
	text := func(socket, listen, more string) string {
		return fmt.Sprintf("console {\nlisten = %q\n%s\n}\nhttp { listen = %q }\n%s", "unix:"+socket, more, listen, reloadA)
	}
	client := func(socket string) *api.Client {
		cl, err := api.NewClient("unix:"+socket, nil)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(cl.Close)
		return cl
	}
	healthy := func(listen string) bool {
		c := http.Client{Timeout: patience}
		defer c.CloseIdleConnections()
		req, err := http.NewRequestWithContext(t.Context(), "GET", "http://"+listen+"/healthz", http.NoBody)
		if err != nil {
			t.Fatal(err)
		}
		resp, err := c.Do(req)
		if err != nil {
			return false
		}
		defer resp.Body.Close()
		return resp.StatusCode == http.StatusOK
	}
	r := newRig(t, text(first, ports[0], ""))
	if !healthy(ports[0]) {
		t.Fatal("no http")
	}
	cl := client(first)
	// The same socket, with another argument: closed and opened while it answers.
	r.write(text(first, ports[0], "capture = false"))
	if p, err := cl.Reload(t.Context()); err != nil || len(p.Changes) != 1 || p.Changes[0].Action != "change console" {
		t.Fatalf("%+v %v", p, err)
	}
	if _, err := cl.Status(t.Context()); err != nil {
		t.Errorf("the socket after a change: %v", err)
	}
	r.write(text(second, ports[1], ""))
	if _, err := cl.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := client(second).Status(t.Context()); err != nil || !healthy(ports[1]) {
		t.Errorf("the new places: %v", err)
	}
	if _, err := client(first).Status(t.Context()); err == nil || healthy(ports[0]) {
		t.Error("the old places answer")
	}
	busy, err := net.Listen("tcp", ports[0])
	for end := time.Now().Add(patience); err != nil && time.Now().Before(end); busy, err = net.Listen("tcp", ports[0]) {
		time.Sleep(10 * time.Millisecond)
	}
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	r.write(text(first, ports[0], ""))
	if _, err := client(second).Reload(t.Context()); err == nil || !strings.Contains(err.Error(), "address already in use") {
		t.Errorf("a port that is taken: %v", err)
	}
	if _, err := client(second).Status(t.Context()); err != nil || !healthy(ports[1]) {
		t.Errorf("after a reload that failed: %v", err)
	}
	if _, err := client(first).Status(t.Context()); err == nil {
		t.Error("the socket of the reload that failed answers")
	}
}

// TestReloadLimits: limits of logins count at once, and what waits for a restart is
// told.
func TestReloadLimits(t *testing.T) {
	r := newRig(t, reloadA)
	cl := r.open(config.Console{}, nil)
	s := r.connect(aluaTarget)
	r.write("limits {\nsessions = 1\nbuffer_memory = \"2GiB\"\n}\nnode { name = \"x\" }\n" + reloadA)
	p, err := cl.Reload(t.Context())
	if err != nil || len(p.Changes) != 2 {
		t.Fatalf("%+v %v", p, err)
	}
	if want := "! settings  # not in force until the daemon is restarted\n    node.name:"; !strings.HasPrefix(p.Changes[1].Text, want) {
		t.Errorf("%s", p.Changes[1].Text)
	}
	st, err := cl.Status(t.Context())
	if err != nil || len(st.Warnings) != 1 || st.Warnings[0] != "waiting for a restart of the daemon: node.name, limits.buffer_memory" {
		t.Errorf("%+v %v", st, err)
	}
	login := func() error {
		u, err := initiator.ParseURL(fmt.Sprintf("iscsi://%s/%s/0", r.addr, aluaTarget))
		if err != nil {
			t.Fatal(err)
		}
		second, err := initiator.Connect(t.Context(), u, nil)
		if err == nil {
			second.Close()
		}
		return err
	}
	var refused *initiator.LoginError
	if err := login(); !errors.As(err, &refused) || refused.Status != pdu.LoginOutOfResources {
		t.Errorf("a second session, with limits.sessions = 1: %v", err)
	}
	r.write(reloadA)
	if _, err := cl.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := login(); err != nil {
		t.Errorf("a second session, with the limit back: %v", err)
	}
	if st, err = cl.Status(t.Context()); err != nil || len(st.Warnings) != 0 {
		t.Errorf("%+v %v", st, err)
	}
	if _, asc := scsiExec(t, s, readBlock, nil, 512); asc != 0 {
		t.Errorf("the first session: %#04x", asc)
	}
}
