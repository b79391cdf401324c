package actors_test

import (
	"bytes"
	"context"
	"errors"
	"io"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// TestLoginTimeout: a login that is not through in time loses its connection,
// however busy it looks.
func TestLoginTimeout(t *testing.T) {
	const timeout = 300 * time.Millisecond
	r := newRig(t, actors.Limits{LoginTimeout: timeout})
	for _, trickle := range []bool{false, true} {
		c := r.dial()
		begin := time.Now()
		if trickle {
			go func() {
				for c.Write([]byte{3}) == nil {
					time.Sleep(20 * time.Millisecond)
				}
			}()
		}
		_, _ = io.Copy(io.Discard, c.NetConn())
		if d := time.Since(begin); d < timeout-50*time.Millisecond || d > timeout+2*time.Second {
			t.Errorf("trickle %v: closed after %v, want %v", trickle, d, timeout)
		}
		_ = c.Close()
	}
	s := r.ready(0, nil)
	time.Sleep(2 * timeout) // a session is not bound by it
	r.attentions(s, 0)
}

// raw logs in and returns the bare connection.
func (r *rig) raw() (*initiator.Conn, *initiator.LoginResult) {
	r.t.Helper()
	c := r.dial()
	res, err := initiator.Negotiate(testContext(r.t), c, initiator.Options{TargetName: target, InitiatorName: name})
	if err != nil {
		r.t.Fatal(err)
	}
	_ = c.SetDeadline(time.Now().Add(patience))
	return c, res
}

// TestPing: a silent initiator is asked, and closed when it does not answer;
// one that answers stays, also when answers come close to the next ping.
func TestPing(t *testing.T) {
	const interval, timeout = 400 * time.Millisecond, 300 * time.Millisecond
	t.Run("silent", func(t *testing.T) {
		r := newRig(t, actors.Limits{NopInterval: interval, NopTimeout: timeout})
		c, _ := r.raw()
		begin := time.Now()
		p, err := c.ReadPDU()
		if err != nil || p.BHS.Opcode() != pdu.OpNOPIn || p.BHS.InitiatorTaskTag() != pdu.ReservedTag {
			t.Fatalf("%+v, %v; want a NOP-In", p, err)
		}
		asked := time.Since(begin)
		if asked < interval-50*time.Millisecond || asked > interval*3/2+200*time.Millisecond {
			t.Errorf("asked after %v of silence, want %v", asked, interval)
		}
		p, err = c.ReadPDU()
		if err != nil {
			t.Fatal(err)
		}
		var m pdu.AsyncMessage
		if err := m.Decode(&p.BHS); err != nil || m.Event != pdu.AsyncDropConnection {
			t.Errorf("%v; want to be told that the connection is dropped", p.BHS.String())
		}
		if p, err := c.ReadPDU(); err == nil {
			t.Errorf("%v; want the end", p.BHS.String())
		}
		if d := time.Since(begin) - asked; d < timeout-50*time.Millisecond || d > timeout+time.Second {
			t.Errorf("closed %v after the ping, want %v", d, timeout)
		}
		r.eventually("the session is gone", func() bool { return r.sessions() == 0 })
	})
	t.Run("answering", func(t *testing.T) {
		// The timeout of a ping that was answered falls into later pings.
		r := newRig(t, actors.Limits{NopInterval: 40 * time.Millisecond, NopTimeout: 150 * time.Millisecond})
		c, res := r.raw()
		for begin := time.Now(); time.Since(begin) < 1500*time.Millisecond; {
			p, err := c.ReadPDU()
			if err != nil {
				t.Fatalf("closed after %v: %v", time.Since(begin), err)
			}
			time.Sleep(20 * time.Millisecond)
			var h pdu.BHS
			(&pdu.NOPOut{
				Immediate: true, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: p.BHS.TargetTransferTag(),
				CmdSN: res.CmdSN, ExpStatSN: p.BHS.StatSN(),
			}).Encode(&h)
			if err := c.WritePDU(&h, nil, nil); err != nil {
				t.Fatal(err)
			}
		}
	})
}

// TestReinstatement: a login of the same initiator port ends the old session
// first, RFC 7143 §6.3.5.
func TestReinstatement(t *testing.T) {
	r := newRig(t, actors.Limits{})
	var old *initiator.Session
	for range 20 {
		s := r.ready(7, nil)
		if old != nil {
			select {
			case <-old.Done():
			case <-time.After(patience):
				t.Fatal("the old session lives")
			}
		}
		old = s
	}
	other := r.ready(8, nil) // another port of the same initiator
	r.attentions(old, 0)
	r.attentions(other, 0)
	if n := r.sessions(); n != 2 {
		t.Errorf("%d sessions", n)
	}
}

// TestReinstatementHang: a backend that hangs delays neither the new login nor
// other blocks, and the write of the old session never overwrites a newer one.
func TestReinstatementHang(t *testing.T) {
	r := newRig(t, actors.Limits{})
	rounds := 30
	if testing.Short() {
		rounds = 5
	}
	for i := range rounds {
		stale, fresh := bytes.Repeat([]byte{1}, blk), bytes.Repeat([]byte{byte(2 + i)}, blk)
		s := r.ready(7, nil)
		inj := r.hang(100)
		if _, err := r.write(s, 100, stale); err != nil {
			t.Fatal(err)
		}
		r.eventually("the write hangs", func() bool { return inj.Hanging() == 1 })
		begin := time.Now()
		s = r.ready(7, nil)
		r.mustWrite(s, 1000, fresh)
		if d := time.Since(begin); d > time.Second {
			t.Fatalf("login and write while the backend hangs: %v", d)
		}
		newer, err := r.write(s, 100, fresh)
		if err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
		inj.Remove()
		if res, err := newer.Wait(testContext(t)); err != nil || res.Err() != nil {
			t.Fatalf("%v %+v", err, res)
		}
		if got := r.read(s, 100, 1); !bytes.Equal(got, fresh) {
			t.Fatalf("round %d: the block holds %d, want %d", i, got[0], fresh[0])
		}
	}
}

// TestSameISIDAtOnce: of many logins of one initiator port at the same time one
// has the session in the end, and all others are refused or ended.
func TestSameISIDAtOnce(t *testing.T) {
	r := newRig(t, actors.Limits{})
	for range 5 {
		var mu sync.Mutex
		var alive []*initiator.Session
		var wg sync.WaitGroup
		for range 16 {
			wg.Go(func() {
				s, err := r.login(9, nil)
				var refused *initiator.LoginError
				if err != nil && !errors.As(err, &refused) && !errors.Is(err, io.EOF) && !strings.Contains(err.Error(), "reset") {
					t.Error(err)
				}
				if err == nil {
					mu.Lock()
					alive = append(alive, s)
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		r.eventually("one session is left", func() bool { return r.sessions() == 1 })
		n := 0
		for _, s := range alive {
			if _, err := s.NOP(testContext(t), nil); err == nil {
				n++
			}
		}
		if n != 1 {
			t.Fatalf("%d of %d sessions live", n, len(alive))
		}
	}
}

// TestSessionLimit: one session too many is refused with "out of resources".
func TestSessionLimit(t *testing.T) {
	r := newRig(t, actors.Limits{Sessions: 2})
	s := r.ready(1, nil)
	r.ready(2, nil)
	for range 3 {
		_, err := r.login(3, nil)
		var refused *initiator.LoginError
		if !errors.As(err, &refused) || refused.Status != pdu.LoginOutOfResources {
			t.Fatalf("%v, want out of resources", err)
		}
	}
	_, err := r.login(0, func(o *initiator.Options) { o.SessionType, o.TargetName = initiator.DiscoverySession, "" })
	var refused *initiator.LoginError
	if !errors.As(err, &refused) || refused.Status != pdu.LoginOutOfResources {
		t.Fatalf("discovery: %v, want out of resources", err)
	}
	if err := s.Logout(testContext(t)); err != nil {
		t.Fatal(err)
	}
	r.eventually("there is room again", func() bool {
		s, err := r.login(3, nil)
		if err == nil {
			_ = s.Close()
		}
		return err == nil
	})
}

// TestHalfOpen: connections that have not logged in are bounded, in all and
// from one address, and count no more when they are gone or logged in.
func TestHalfOpen(t *testing.T) {
	for name, limits := range map[string]actors.Limits{
		"in all":      {LoginsAtOnce: 3},
		"per address": {LoginsPerAddr: 3},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, limits)
			for range 5 {
				r.ready(0, nil) // logged in: not counted
			}
			var half []*initiator.Conn
			for range 3 {
				half = append(half, r.dial())
			}
			// One more is closed at once.
			c := r.dial()
			if _, err := c.NetConn().Read(make([]byte, 1)); err == nil || errors.Is(err, context.DeadlineExceeded) {
				t.Fatalf("%v, want the end of the connection", err)
			}
			for _, c := range half {
				_ = c.Close()
			}
			r.eventually("there is room again", func() bool {
				s, err := r.login(0, nil)
				if err == nil {
					_ = s.Close()
				}
				return err == nil
			})
		})
	}
}

// TestShutdown: initiators are asked to log out; those that do end it at once,
// for the others there is an end too.
func TestShutdown(t *testing.T) {
	t.Run("polite", func(t *testing.T) {
		r := newRig(t, actors.Limits{})
		var wg sync.WaitGroup
		for range 3 {
			asked := make(chan struct{}, 1)
			s := r.ready(0, func(o *initiator.Options) {
				o.Async = func(m pdu.AsyncMessage, _ []byte) {
					if m.Event == pdu.AsyncLogoutRequest && m.Parameter3 > 0 {
						asked <- struct{}{}
					}
				}
			})
			wg.Go(func() {
				<-asked
				if err := s.Logout(testContext(t)); err != nil {
					t.Error(err)
				}
			})
		}
		half := r.dial() // not logged in: is not waited for
		ctx, cancel := context.WithTimeout(context.Background(), patience)
		defer cancel()
		begin := time.Now()
		if err := r.n.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		r.down = true
		if d := time.Since(begin); d > 4*time.Second {
			t.Errorf("took %v", d)
		}
		wg.Wait()
		if _, err := half.ReadPDU(); err == nil {
			t.Error("a connection is left")
		}
	})
	t.Run("deaf", func(t *testing.T) {
		r := newRig(t, actors.Limits{})
		s := r.ready(0, nil)
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		begin := time.Now()
		if err := r.n.Shutdown(ctx); err != nil {
			t.Error(err)
		}
		r.down = true
		if d := time.Since(begin); d > 3*time.Second {
			t.Errorf("took %v", d)
		}
		<-s.Done()
		if _, err := initiator.Dial(testContext(t), r.addr); err == nil {
			t.Error("still listening")
		}
	})
}

// TestPortalCrash: a fault in a portal loses no connection, neither one that
// is logged in nor one that is just being accepted.
func TestPortalCrash(t *testing.T) {
	r := newRig(t, actors.Limits{})
	s := r.ready(0, nil)
	for range 3 {
		r.crash("portal")
		for range 5 {
			x := r.ready(0, nil)
			if err := x.Logout(testContext(t)); err != nil {
				t.Fatal(err)
			}
		}
	}
	r.attentions(s, 0)
}
