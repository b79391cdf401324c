package iserd_test

import (
	"context"
	"errors"
	"net/netip"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
)

// faultyProvider's connection management says what the test wants.
type faultyProvider struct {
	verbs.Provider
	events chan verbs.Event
	errs   chan error
}

type faultyCM struct {
	verbs.CM
	p *faultyProvider
}

func (p *faultyProvider) NewCM() (verbs.CM, error) {
	cm, err := p.Provider.NewCM()
	return &faultyCM{CM: cm, p: p}, err
}

func (c *faultyCM) Next(ctx context.Context) (verbs.Event, error) {
	type answer struct {
		ev  verbs.Event
		err error
	}
	next := make(chan answer, 1)
	inner, cancel := context.WithCancel(ctx)
	defer cancel()
	go func() {
		ev, err := c.CM.Next(inner)
		next <- answer{ev, err}
	}()
	var given answer
	select {
	case a := <-next:
		return a.ev, a.err
	case given.ev = <-c.p.events:
	case given.err = <-c.p.errs:
	}
	cancel()
	if a := <-next; a.err == nil { // it came just now
		go func() { c.p.events <- a.ev }()
	}
	return given.ev, given.err
}

// unhashable is a connection that no map can look for.
type unhashable struct {
	verbs.Conn
	_ []int
}

// faultyISER serves iSER over a provider whose faults are the test's.
func faultyISER(t *testing.T) (*iserd.Server, netip.AddrPort, *faultyProvider) {
	t.Helper()
	soft := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { _ = soft.Close() })
	p := &faultyProvider{Provider: soft, events: make(chan verbs.Event), errs: make(chan error)}
	srv, _ := start(t)
	addr, _, err := srv.AddISERPortal(t.Context(), p, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { quiet(t, srv) })
	return srv, addr, p
}

// tryISER logs in, which may fail for a while.
func tryISER(t *testing.T, addr netip.AddrPort) (*initiator.Session, error) {
	t.Helper()
	prov := softiwarp.New(softiwarp.Config{})
	t.Cleanup(func() { _ = prov.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	c, err := rdma.Dial(ctx, prov, addr, rdma.Options{})
	if err != nil {
		return nil, err
	}
	s, err := initiator.Login(ctx, c, initiator.Options{TargetName: testTarget, Extra: rdma.Keys()})
	if err != nil {
		_ = c.Close()
		return nil, err
	}
	t.Cleanup(func() { _ = s.Close() })
	return s, nil
}

// again logs in as soon as it goes.
func again(t *testing.T, addr netip.AddrPort) *initiator.Session {
	t.Helper()
	for deadline := time.Now().Add(10 * time.Second); ; time.Sleep(10 * time.Millisecond) {
		s, err := tryISER(t, addr)
		if err == nil {
			return s
		}
		if time.Now().After(deadline) {
			t.Fatal("no login any more:", err)
		}
	}
}

// A panic in connection management is an event of supervision; connections and
// the portal go on.
func TestISERPanicInConnectionManagement(t *testing.T) {
	srv, addr, p := faultyISER(t)
	s := again(t, addr)
	ready(t, s)
	const n = 12 // more than an actor with a state may be restarted in a minute
	for range n {
		p.events <- verbs.Event{Kind: verbs.EventEstablished, Conn: unhashable{}}
	}
	restarted(t, srv, "rdma", n)
	ready(t, s)
	ready(t, again(t, addr))
}

// Connection management that fails is begun again: sessions end, for nobody
// would tell of their ends, and initiators log in as before at the same address.
func TestISERConnectionManagementFails(t *testing.T) {
	_, addr, p := faultyISER(t)
	for range 3 {
		s := again(t, addr)
		ready(t, s)
		p.errs <- errors.New("the device file is gone")
		<-s.Done()
	}
	ready(t, again(t, addr))
}
