package softiwarp

import (
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// soakConn is one connection of the soak test: an active end on the CQ of the
// one side, a passive end on the CQ of the other.
type soakConn struct {
	a, b *QP
	own  *MR // of the active side
	mr   *MR // of the passive side
	mem  []byte

	posted, done atomic.Int64 // work requests
	failed       atomic.Bool
}

// One goroutine pumps each side, and others close memory, disconnect and close
// connections under their hands: every work request completes once, and memory
// that was given back is not touched.
func TestSoak(t *testing.T) {
	a, b := newEnd(t, Config{}), newEnd(t, Config{})
	l, err := b.cm.Listen(loopback, 0)
	must(t, err)
	defer func() { must(t, l.Close()) }()
	var conns sync.Map // soakKey → *soakConn
	var stop atomic.Bool
	var wg sync.WaitGroup
	for _, side := range []*end{a, b} {
		wg.Go(func() {
			p, err := verbs.NewPoller(side.cq, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer func() { _ = p.Close() }()
			wc := make([]verbs.WC, 64)
			for !stop.Load() {
				n, err := p.Wait(wc, 5*time.Millisecond)
				if err != nil {
					t.Error(err)
					return
				}
				for _, w := range wc[:n] {
					c, ok := conns.Load(soakKey{side, w.QPN})
					if ok {
						c.(*soakConn).completed(side == a, w)
					}
				}
			}
		})
		wg.Go(func() { // events that nobody needs
			for !stop.Load() {
				ctx, cancel := contextWithin(5 * time.Millisecond)
				_, _ = side.dev.NextEvent(ctx)
				cancel()
			}
		})
	}
	rng := rand.New(rand.NewPCG(1, 2))
	end := time.Now().Add(time.Second)
	if testing.Short() {
		end = time.Now().Add(200 * time.Millisecond)
	}
	rounds := 0
	for ; time.Now().Before(end); rounds++ {
		soakRound(t, a, b, l, &conns, rng)
	}
	stop.Store(true)
	wg.Wait()
	t.Logf("%d rounds", rounds)
}

type soakKey struct {
	e   *end
	qpn uint32
}

// completed answers every completion with another work request.
func (c *soakConn) completed(active bool, w verbs.WC) {
	c.done.Add(1)
	if w.Status != verbs.WCSuccess {
		c.failed.Store(true)
		return
	}
	if !active {
		c.posted.Add(1)
		if _, err := c.b.PostRecv([]verbs.RecvWR{{}}); err != nil {
			c.posted.Add(-1)
		}
		return
	}
	c.post(int(w.ID))
}

// post does the next thing: it is a Write, a Read or a Send in turn.
func (c *soakConn) post(n int) {
	n++
	wr := verbs.SendWR{ID: uint64(n), Flags: verbs.SendSignaled, Op: verbs.OpSend}
	switch n % 3 {
	case 1:
		wr.Op, wr.RAddr, wr.RKey = verbs.OpWrite, verbs.Addr(c.mr.Mem()), c.mr.RKey()
		wr.SG = []verbs.SGE{c.sge(n % 40000)}
	case 2:
		wr.Op, wr.RAddr, wr.RKey = verbs.OpRead, verbs.Addr(c.mr.Mem()), c.mr.RKey()
		wr.SG = []verbs.SGE{c.sge(n * 7 % 40000)}
	}
	c.posted.Add(1)
	if _, err := c.a.PostSend([]verbs.SendWR{wr}); err != nil {
		c.posted.Add(-1)
	}
}

func (c *soakConn) sge(n int) verbs.SGE {
	return verbs.SGE{Addr: verbs.Addr(c.own.Mem()), Len: uint32(n), LKey: c.own.LKey()}
}

// soakRound makes some connections, lets them run, and ends each in another
// way.
func soakRound(t *testing.T, a, b *end, l verbs.Listener, conns *sync.Map, rng *rand.Rand) {
	const n = 4
	var cs [n]*soakConn
	for i := range cs {
		a.dial(l.Addr())
		a.newQP()
		must(t, a.conn.Connect(param))
		connectRequest(t, a, b)
		c := &soakConn{a: a.qp, b: b.qp, own: a.mr}
		cs[i] = c
		var err error
		c.mem, err = verbs.Map(64 << 10)
		must(t, err)
		c.mr = b.register(c.mem, verbs.AccessLocalWrite|verbs.AccessRemoteWrite|verbs.AccessRemoteRead)
		conns.Store(soakKey{a, a.qp.Num()}, c)
		conns.Store(soakKey{b, b.qp.Num()}, c)
		for range 16 {
			c.posted.Add(1)
			_, err := c.b.PostRecv([]verbs.RecvWR{{}})
			must(t, err)
		}
		for k := range 4 {
			c.post(k)
		}
		a.conn, b.conn = nil, nil
	}
	time.Sleep(time.Duration(rng.IntN(3000)) * time.Microsecond)
	for i, c := range cs {
		switch (i + rng.IntN(2)) % n {
		case 0:
			must(t, c.mr.Close()) // the peer's next access is refused
			must(t, verbs.Unmap(c.mem))
			c.mem = nil
			until(t, func() bool { return c.failed.Load() })
		case 1:
			must(t, c.a.conn.Disconnect())
		case 2:
			must(t, c.b.conn.Disconnect())
		case 3:
			must(t, c.b.ToError())
		}
	}
	for _, c := range cs {
		until(t, func() bool { return c.done.Load() == c.posted.Load() && ended(c.a) && ended(c.b) })
		must(t, c.a.conn.Close())
		must(t, c.b.conn.Close())
		must(t, c.mr.Close())
		if c.mem != nil {
			must(t, verbs.Unmap(c.mem))
		}
		conns.Delete(soakKey{a, c.a.Num()})
		conns.Delete(soakKey{b, c.b.Num()})
		if got, want := c.done.Load(), c.posted.Load(); got != want {
			t.Fatalf("%d work requests completed, %d were posted", got, want)
		}
	}
}

func ended(q *QP) bool {
	q.home.mu.Lock()
	defer q.home.mu.Unlock()
	return q.state == qpError
}
