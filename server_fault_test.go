package iserd_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// load writes and reads back one block range over and over, logs in again when
// its session is lost and repeats what was not acknowledged with GOOD. What it
// checks is the promise: an acknowledged write is there, whatever fails.
type load struct {
	t      *testing.T
	addr   string
	lba    uint32
	s      *initiator.Session
	gen    uint64 // of the last acknowledged write
	logins atomic.Int64
	ios    atomic.Int64
	busy   int
	sense  map[string]int
}

const loadBlocks = 16

func (l *load) pattern(gen uint64) []byte {
	b := make([]byte, loadBlocks*512)
	for i := 0; i < len(b); i += 16 {
		binary.BigEndian.PutUint64(b[i:], gen)
		binary.BigEndian.PutUint64(b[i+8:], uint64(l.lba)<<32|uint64(i))
	}
	return b
}

func (l *load) login(ctx context.Context) error {
	u, err := initiator.ParseURL("iscsi://" + l.addr + "/" + testTarget + "/0")
	if err != nil {
		return err
	}
	l.s, err = initiator.Connect(ctx, u, func(o *initiator.Options) {
		o.InitiatorName = "iqn.2026-11.com.example:load"
		o.ISID = pdu.ISID{0x80, 0, 0, 0, byte(l.lba >> 8), byte(l.lba)}
	})
	if err == nil {
		l.logins.Add(1)
	}
	return err
}

// do runs a command until it is answered GOOD.
func (l *load) do(ctx context.Context, cdb, out []byte, in int) (*initiator.Result, error) {
	for ctx.Err() == nil {
		if l.s == nil {
			if err := l.login(ctx); err != nil {
				time.Sleep(5 * time.Millisecond)
				continue
			}
		}
		r, err := l.s.Exec(ctx, 0, cdb, out, in)
		switch {
		case err != nil:
			l.s.Close()
			l.s = nil
		case r.Status == 0:
			return r, nil
		case r.Status == 8:
			l.busy++
			time.Sleep(5 * time.Millisecond)
		default:
			key, asc, ascq, _ := initiator.DecodeSense(r.Sense)
			l.sense[string([]byte{'0' + key, '/', hex(asc >> 4), hex(asc), '/', hex(ascq >> 4), hex(ascq)})]++
		}
	}
	return nil, ctx.Err()
}

func hex(b byte) byte { return "0123456789ABCDEF"[b&15] }

func (l *load) run(ctx context.Context) {
	for ctx.Err() == nil {
		next := l.gen + 1
		if _, err := l.do(ctx, cdb10(write10, l.lba, loadBlocks), l.pattern(next), 0); err != nil {
			break
		}
		l.gen = next
		r, err := l.do(ctx, cdb10(read10, l.lba, loadBlocks), nil, loadBlocks*512)
		if err != nil {
			break
		}
		if !bytes.Equal(r.Data, l.pattern(next)) {
			l.t.Errorf("LBA %d: acknowledged write %d is not there", l.lba, next)
			break
		}
		l.ios.Add(1)
	}
	if l.s != nil {
		l.s.Close()
	}
}

// progress waits until every load has checked another write.
func progress(t *testing.T, loads []*load) {
	t.Helper()
	deadline := time.Now().Add(30 * time.Second)
	for _, l := range loads {
		for was := l.ios.Load(); l.ios.Load() < was+2; time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				t.Fatalf("LBA %d: no I/O for 30 s", l.lba)
			}
		}
	}
}

// restarted waits until the actors of a kind have been restarted n times.
func restarted(t *testing.T, srv *iserd.Server, kind string, n int) {
	t.Helper()
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(time.Millisecond) {
		restarts := 0
		for _, a := range srv.Actors() {
			if a.Kind == kind {
				restarts += int(a.Restarts)
			}
		}
		if restarts >= n {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d restarts of %s, want %d", restarts, kind, n)
		}
	}
}

// crashAll panics every living actor of a kind and reports how many there were.
func crashAll(srv *iserd.Server, kind string) (n int) {
	for _, a := range srv.Actors() {
		if a.Kind == kind && srv.Inject(a.Path, "panic", 0) == nil {
			n++
		}
	}
	return n
}

// TestFaults panics each kind of actor again and again under load. The process
// lives, acknowledged data stays, and initiators see what docs/architecture.md
// promises for that kind.
func TestFaults(t *testing.T) {
	rounds := 20
	if testing.Short() {
		rounds = 3
	}
	for kind, seen := range map[string]struct {
		relogin bool          // sessions are lost
		pause   time.Duration // between faults
	}{
		"conn":     {relogin: true, pause: 20 * time.Millisecond},
		"session":  {relogin: true, pause: 20 * time.Millisecond},
		"sessions": {relogin: true, pause: 400 * time.Millisecond},
		"target":   {pause: 200 * time.Millisecond},
		"portal":   {pause: 200 * time.Millisecond},
		"lun":      {pause: 300 * time.Millisecond},
	} {
		t.Run(kind, func(t *testing.T) {
			t.Parallel()
			rounds := rounds
			if kind != "conn" && kind != "session" {
				rounds = min(rounds, 4) // restarts are limited: 8 in 60 s, LUNs 5 in 30 s
			}
			if kind == "lun" && testing.Short() {
				rounds = 1
			}
			srv, addr := start(t)
			ctx, cancel := context.WithCancel(t.Context())
			defer cancel()
			var loads []*load
			var wg sync.WaitGroup
			for i := range 4 {
				l := &load{t: t, addr: addr, lba: uint32(1 + i*100), sense: make(map[string]int)}
				loads = append(loads, l)
				wg.Go(func() { l.run(ctx) })
			}
			progress(t, loads)
			crashed := 0
			for range rounds {
				crashed += crashAll(srv, kind)
				time.Sleep(seen.pause)
				if kind == "lun" {
					restarted(t, srv, kind, crashed)
				}
				if seen.pause > 100*time.Millisecond {
					progress(t, loads)
				}
			}
			progress(t, loads)
			cancel()
			wg.Wait()
			if crashed == 0 {
				t.Fatalf("no actor of kind %s", kind)
			}
			for _, l := range loads {
				t.Logf("LBA %d: %d writes checked, %d logins, %d BUSY, sense %v", l.lba, l.ios.Load(), l.logins.Load(), l.busy, l.sense)
				if relogin := l.logins.Load() > 1; relogin != seen.relogin {
					t.Errorf("LBA %d: %d logins, want a new one: %v", l.lba, l.logins.Load(), seen.relogin)
				}
				if kind == "lun" && l.sense["6/29/04"] != crashed {
					t.Errorf("LBA %d: %d faults and unit attentions %v, want 6/29/04 for each", l.lba, crashed, l.sense)
				}
			}
		})
	}
}

// TestLUNGoesOffline: a LUN that fails too often is taken offline and says so;
// the session and the process live.
func TestLUNGoesOffline(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, nil)
	ready(t, s)
	deadline := time.Now().Add(30 * time.Second)
	for time.Now().Before(deadline) {
		crashAll(srv, "lun")
		r, err := s.Exec(t.Context(), 0, make([]byte, 6), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if key, asc, ascq, ok := initiator.DecodeSense(r.Sense); ok && key == 2 && asc == 4 && ascq == 3 {
			return // NOT READY, MANUAL INTERVENTION REQUIRED
		}
		time.Sleep(20 * time.Millisecond)
	}
	t.Error("the LUN never went offline")
}

// TestCrashNeedsPermission: fault injection is off unless asked for.
func TestCrashNeedsPermission(t *testing.T) {
	srv, err := iserd.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	defer srv.Shutdown(t.Context())
	if err := srv.Inject("node", "panic", 0); err == nil || !strings.Contains(err.Error(), "not enabled") {
		t.Errorf("Crash = %v", err)
	}
	if errors.Is(err, context.Canceled) {
		t.Error("unexpected")
	}
}
