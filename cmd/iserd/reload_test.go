package main

import (
	"bytes"
	"crypto/rand"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/initiator"
)

// rig is a daemon in this process whose configuration the test writes.
type rig struct {
	t    *testing.T
	file string
	addr string
	at   string // of the console, once it is open
	ctl  *control
}

func newRig(t *testing.T, text string) *rig {
	t.Helper()
	r := &rig{t: t, file: filepath.Join(t.TempDir(), "iserd.hcl"), addr: freePort(t)}
	r.write(text)
	load := func(opts []config.Option) (*config.Config, config.Diagnostics) { return config.LoadWith(opts, r.file) }
	host := newSnapshot(config.OS())
	c, diags := load([]config.Option{config.WithHost(host)})
	if c == nil {
		t.Fatal(diags.Error())
	}
	host.seal()
	log, out, err := newLogger(c.Log, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	d, err := start(t.Context(), c, log)
	if err != nil {
		t.Fatal(err)
	}
	r.ctl = &control{d: d, log: log, levels: log.levels, out: out, load: load, host: host, running: c}
	if r.ctl.listeners, err = openListeners(newAdmin(r.ctl), withConsole(c), log); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		r.ctl.listeners.close()
		if err := d.shutdown(time.Second, hclog.NewNullLogger()); err != nil {
			t.Error(err)
		}
		out.Close()
	})
	return r
}

func (r *rig) write(text string) {
	r.t.Helper()
	text = strings.ReplaceAll(text, "127.0.0.1:PORT", r.addr)
	if err := os.WriteFile(r.file, []byte(text), 0o600); err != nil {
		r.t.Fatal(err)
	}
}

func (r *rig) connect(target string) *initiator.Session {
	r.t.Helper()
	u, err := initiator.ParseURL(fmt.Sprintf("iscsi://%s/%s/0", r.addr, target))
	if err != nil {
		r.t.Fatal(err)
	}
	s, err := initiator.Connect(r.t.Context(), u, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() { s.Close() })
	for range 4 {
		if res, err := s.Exec(r.t.Context(), 0, make([]byte, 6), nil, 0); err == nil && res.Status == 0 {
			break
		}
	}
	return s
}

const reloadA = `
portal_group "lan" {
  tag = 1
  portal "127.0.0.1:PORT" {}
}
backend "memory" "still" { size = "16MiB" }
backend "memory" "changes" { size = "16MiB" }
target "iqn.2026-11.com.example:still" {
  insecure = true
  lun "0" { backend = backend.memory.still }
}
target "iqn.2026-11.com.example:changes" {
  insecure = true
  alias    = "one"
  lun "0" { backend = backend.memory.changes }
}
`

// others are what reloads alternate between: all leave the first target alone.
var others = []string{
	strings.Replace(reloadA, `"one"`, `"two"`, 1),
	strings.Replace(reloadA, `insecure = true
  alias`, `insecure = nonsense
  alias`, 1), // bad
	strings.Replace(reloadA, `:changes"`, `:another"`, 1),
	strings.Replace(reloadA, `lun "0" { backend = backend.memory.changes }`, `lun "7" { backend = backend.memory.changes }`, 1),
	"nonsense {", // bad
	strings.Replace(reloadA, `lun "0" { backend = backend.memory.changes }`, "lun \"0\" {\nbackend = backend.memory.changes\nserial = \"X\"\n}", 1),
	reloadA,
}

// TestReloadsUnderLoad: reloads with good and bad configurations, while a target
// that they leave alone is written and read without a gap. ISERD_RELOADS sets
// their number.
func TestReloadsUnderLoad(t *testing.T) {
	n := 70
	if text := os.Getenv("ISERD_RELOADS"); text != "" {
		n, _ = strconv.Atoi(text)
	}
	r := newRig(t, reloadA)
	s := r.connect("iqn.2026-11.com.example:still")
	stop, ended := make(chan struct{}), make(chan error, 1)
	go func() { ended <- verify(t, s, stop) }()
	var longest time.Duration
	for i := range n {
		text := others[i%len(others)]
		r.write(text)
		before := r.ctl.inForceNow()
		begun := time.Now()
		_, _, err := r.ctl.reload(t.Context())
		longest = max(longest, time.Since(begun))
		var invalid *errInvalid
		switch bad := text == others[1] || text == others[4]; {
		case bad && !errors.As(err, &invalid):
			t.Fatalf("reload %d: a bad configuration was taken: %v", i, err)
		case bad && r.ctl.inForceNow() != before:
			t.Fatalf("reload %d: a bad configuration came into force", i)
		case bad && !strings.Contains(err.Error(), r.file+":"):
			t.Fatalf("reload %d: no place in %v", i, err)
		case !bad && err != nil:
			t.Fatalf("reload %d: %v", i, err)
		}
	}
	close(stop)
	if err := <-ended; err != nil {
		t.Fatal(err)
	}
	all, err := r.ctl.d.server.Sessions(t.Context())
	if err != nil || len(all) != 1 || all[0].TSIH != 1 {
		t.Errorf("the session was not left alone: %+v %v", all, err)
	}
	t.Logf("%d reloads, the longest took %v", n, longest)
}

// verify writes blocks and reads them back until stop.
func verify(t *testing.T, s *initiator.Session, stop <-chan struct{}) error {
	cdb := func(op byte, lba uint32) []byte {
		c := make([]byte, 10)
		c[0], c[8] = op, 8
		binary.BigEndian.PutUint32(c[2:], lba)
		return c
	}
	data := make([]byte, 4096)
	for i := uint32(0); ; i++ {
		select {
		case <-stop:
			return nil
		default:
		}
		rand.Read(data)
		lba := i * 8 % 32768
		// A unit attention may come: the list of LUNs is the target's own, and
		// it must not.
		if r, err := s.Exec(t.Context(), 0, cdb(0x2A, lba), data, 0); err != nil || r.Status != 0 {
			return fmt.Errorf("write %d: %w %+v", i, err, r)
		}
		r, err := s.Exec(t.Context(), 0, cdb(0x28, lba), nil, 4096)
		if err != nil || r.Status != 0 || !bytes.Equal(r.Data, data) {
			return fmt.Errorf("read %d: %w %+v", i, err, r.Status)
		}
	}
}

// TestReloadIsUndone: a change that fails in the middle leaves nothing behind.
func TestReloadIsUndone(t *testing.T) {
	r := newRig(t, reloadA)
	busy, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer busy.Close()
	s := r.connect("iqn.2026-11.com.example:changes")
	data := bytes.Repeat([]byte{0x5A}, 4096)
	write := []byte{0x2A, 0, 0, 0, 0, 0, 0, 0, 8, 0}
	if res, err := s.Exec(t.Context(), 0, write, data, 0); err != nil || res.Status != 0 {
		t.Fatal(err, res)
	}
	text := strings.Replace(reloadA, `"one"`, `"two"`, 1)
	text = strings.Replace(text, `lun "0" { backend = backend.memory.changes }`, "lun \"0\" {\nbackend = backend.memory.changes\nread_only = true\n}", 1)
	text = strings.Replace(text, `portal "127.0.0.1:PORT" {}`, "portal \"127.0.0.1:PORT\" {}\nportal \""+busy.Addr().String()+"\" {}", 1)
	text += `
backend "memory" "new" { size = "1MiB" }
target "iqn.2026-11.com.example:new" {
  insecure = true
  lun "0" { backend = backend.memory.new }
}
`
	r.write(text)
	before := r.ctl.inForceNow()
	changes, _, err := r.ctl.reload(t.Context())
	var e *exitError
	if !errors.As(err, &e) || e.code != exitBusy || len(changes) < 4 {
		t.Fatalf("%v, %d changes", err, len(changes))
	}
	if r.ctl.inForceNow() != before {
		t.Error("the refused configuration is in force")
	}
	srv := r.ctl.d.server
	if srv.Target("iqn.2026-11.com.example:new") != nil || len(srv.Portals()) != 1 {
		t.Errorf("something is left: %+v", srv.Portals())
	}
	i := srv.Target("iqn.2026-11.com.example:changes").Info()
	if i.Alias != "one" || len(i.LUNs) != 1 || i.LUNs[0].ReadOnly || i.LUNs[0].State != "online" {
		t.Errorf("%+v", i)
	}
	s = r.connect("iqn.2026-11.com.example:changes")
	res, err := s.Exec(t.Context(), 0, []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0}, nil, 4096)
	if err != nil || !bytes.Equal(res.Data, data) {
		t.Errorf("the data is gone: %v", err)
	}
}

// TestReloadMovesStore: a file goes from one target to another in one reload.
func TestReloadMovesStore(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk")
	text := strings.Replace(reloadA, `backend "memory" "changes" { size = "16MiB" }`, fmt.Sprintf("backend \"file\" \"changes\" {\npath = %q\nsize = \"1MiB\"\ncreate = true\n}", path), 1)
	text = strings.ReplaceAll(text, "backend.memory.changes", "backend.file.changes")
	r := newRig(t, text)
	r.write(strings.Replace(text, `:changes"`, `:another"`, 1))
	if _, _, err := r.ctl.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if r.ctl.d.server.Target("iqn.2026-11.com.example:another") == nil {
		t.Error("it did not move")
	}
	// And it grows while it is open.
	r.write(strings.Replace(strings.Replace(text, `:changes"`, `:another"`, 1), `"1MiB"`, `"2MiB"`, 1))
	if _, _, err := r.ctl.reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	l := r.ctl.d.server.Target("iqn.2026-11.com.example:another").Info().LUNs[0]
	if l.Blocks != 4096 {
		t.Errorf("%d blocks", l.Blocks)
	}
	if err := r.ctl.d.server.RestartActor(l.ActorPath); err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(patience); ; time.Sleep(time.Millisecond) {
		l = r.ctl.d.server.Target("iqn.2026-11.com.example:another").Info().LUNs[0]
		if l.State == "online" && l.Blocks == 4096 && len(r.ctl.d.server.Faults()) > 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("the LUN does not come back: %+v", l)
		}
	}
}
