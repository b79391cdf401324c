package iserd_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// mpaRequest is an MPA request frame, revision 2, of an iSER initiator that
// answers 16 RDMA Reads (RFC 5044 §7.1, RFC 6581 §6).
func mpaRequest() []byte {
	return append([]byte("MPA ID Req Frame\x10\x02\x00\x08\x00\x10\x00\x01"), 0xc0, 0, 0, 0)
}

// startOne serves LUN 0, of 64 MiB, and LUN 1, which can grow, at one address.
func startOne(t testing.TB, limits iserd.Limits, opts ...iserd.PortalOption) (*iserd.Server, *iserd.Target, netip.AddrPort) {
	t.Helper()
	srv, err := iserd.NewServer(iserd.WithLimits(limits))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		quiet(t, srv)
		if err := shutDown(srv); err != nil {
			t.Error("shutdown:", err)
		}
	})
	disk, err := memory.New(memory.Options{Size: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	grows, err := memory.New(memory.Options{Size: 1 << 20, MaxSize: 8 << 20})
	if err != nil {
		t.Fatal(err)
	}
	l := login.DefaultLimits()
	tg, err := srv.AddTarget(t.Context(), testTarget, iserd.AnyInitiator(), iserd.SessionLimits(l),
		iserd.LUN(0, disk), iserd.LUN(1, grows))
	if err != nil {
		t.Fatal(err)
	}
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddPortal(t.Context(), ln, opts...); err != nil {
		t.Fatal(err)
	}
	return srv, tg, netip.MustParseAddrPort(ln.Addr().String())
}

// status sends a command without data and returns its status and sense.
func statusOf(t *testing.T, s *initiator.Session, lun uint16, cdb []byte, in int) (byte, []byte) {
	t.Helper()
	r, err := s.Exec(t.Context(), pdu.LUNOf(lun), cdb, nil, in)
	if err != nil {
		t.Fatal(err)
	}
	return r.Status, r.Sense
}

// readyLUN takes the unit attentions of the login.
func readyLUN(t *testing.T, s *initiator.Session, lun uint16) {
	t.Helper()
	for range 4 {
		if st, _ := statusOf(t, s, lun, make([]byte, 6), 0); st == 0 {
			return
		}
	}
	t.Fatalf("LUN %d does not get ready", lun)
}

// TestOnePort: discovery, TCP and iSER meet at one address and port, on one LUN
// with one reservation and one size.
func TestOnePort(t *testing.T) {
	srv, tg, at := startOne(t, iserd.Limits{})
	if p := srv.Portals(); len(p) != 1 || !p[0].TCP || fmt.Sprint(p[0].ISER) != "[softiwarp]" || p[0].Address != at.String() {
		t.Fatalf("portals %+v", p)
	}
	targets, err := initiator.Discover(t.Context(), at.String(), initiator.Options{})
	if err != nil {
		t.Fatal(err)
	}
	overTCP := connect(t, at.String(), nil)
	if u, err := srv.RDMAUsage(t.Context()); err != nil || u != (iserd.RDMAUsage{}) {
		t.Fatalf("before the first iSER connection RDMA takes %+v, %v", u, err)
	}
	overISER := connectISER(t, at, rdma.Options{}, nil)
	d, err := initiator.Login(t.Context(), dialISER(t, at, rdma.Options{}), initiator.Options{SessionType: initiator.DiscoverySession})
	if err != nil {
		t.Fatal(err)
	}
	again, err := d.SendTargets(t.Context(), "All")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("[{%s [{%v 1}]}]", testTarget, at)
	if got := fmt.Sprint(targets); got != want || fmt.Sprint(again) != want {
		t.Errorf("SendTargets over TCP tells %s, over iSER %v; want %s", got, again, want)
	}
	if err := d.Logout(t.Context()); err != nil {
		t.Error(err)
	}
	for _, s := range []*initiator.Session{overTCP, overISER} {
		readyLUN(t, s, 0)
		readyLUN(t, s, 1)
	}
	for i, s := range []*initiator.Session{overTCP, overISER} {
		other := []*initiator.Session{overISER, overTCP}[i]
		roundTrip(t, s, uint32(100*i), 33)
		a, err := s.Exec(t.Context(), 0, cdb10(read10, uint32(100*i), 33), nil, 33*512)
		if err != nil {
			t.Fatal(err)
		}
		b, err := other.Exec(t.Context(), 0, cdb10(read10, uint32(100*i), 33), nil, 33*512)
		if err != nil || !bytes.Equal(a.Data, b.Data) {
			t.Errorf("the two ways read other data: %v", err)
		}
	}
	t.Run("reservation", func(t *testing.T) { oneReservation(t, overTCP, overISER) })
	t.Run("size", func(t *testing.T) { oneSize(t, tg, overTCP, overISER) })
}

// oneReservation: a persistent reservation (write exclusive) of either conflicts
// with the other's writes.
func oneReservation(t *testing.T, a, b *initiator.Session) {
	for range 2 {
		for n, step := range []struct {
			s       *initiator.Session
			action  byte
			key, sa uint64
		}{{a, 0, 0, 0x77}, {a, 1, 0x77, 0}} {
			cdb, list := prout(step.action, 1, step.key, step.sa, false)
			if r, err := step.s.Exec(t.Context(), 0, cdb, list, 0); err != nil || r.Status != 0 {
				t.Fatalf("step %d: %v %+v", n, err, r)
			}
		}
		const conflict = 0x18
		if r, err := b.Exec(t.Context(), 0, cdb10(write10, 0, 1), make([]byte, 512), 0); err != nil || r.Status != conflict {
			t.Errorf("write of the other: %v, status %#x, want RESERVATION CONFLICT", err, r.Status)
		}
		if r, err := a.Exec(t.Context(), 0, cdb10(write10, 0, 1), make([]byte, 512), 0); err != nil || r.Status != 0 {
			t.Errorf("write of the holder: %v, status %#x", err, r.Status)
		}
		cdb, list := prout(3, 0, 0x77, 0, false) // CLEAR
		if r, err := a.Exec(t.Context(), 0, cdb, list, 0); err != nil || r.Status != 0 {
			t.Fatal(err, r)
		}
		a, b = b, a
		// What happened to the reservation is told as a unit attention.
		for _, s := range []*initiator.Session{a, b} {
			readyLUN(t, s, 0)
		}
	}
}

// oneSize: both are told when a LUN grows, and see its new size.
func oneSize(t *testing.T, tg *iserd.Target, sessions ...*initiator.Session) {
	if err := tg.ResizeTo(t.Context(), 1, 8<<20); err != nil {
		t.Fatal(err)
	}
	for i, s := range sessions {
		st, sense := statusOf(t, s, 1, make([]byte, 6), 0)
		key, asc, ascq, ok := initiator.DecodeSense(sense)
		if st != 2 || !ok || key != 6 || asc != 0x2a || ascq != 0x09 { // CAPACITY DATA HAS CHANGED
			t.Errorf("session %d: status %#x, sense %x/%02x/%02x", i, st, key, asc, ascq)
		}
		r, err := s.Exec(t.Context(), pdu.LUNOf(1), []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 8)
		if err != nil || r.Status != 0 || !bytes.Equal(r.Data, []byte{0, 0, 0x3f, 0xff, 0, 0, 2, 0}) {
			t.Errorf("session %d: READ CAPACITY %v % x", i, err, r.Data)
		}
	}
}

// TestTCPOnly: such a portal does not know an MPA request.
func TestTCPOnly(t *testing.T) {
	srv, _, at := startOne(t, iserd.Limits{LoginTimeout: 200 * time.Millisecond}, iserd.TCPOnly())
	if p := srv.Portals(); len(p) != 1 || !p[0].TCP || p[0].ISER != nil {
		t.Errorf("portals %+v", p)
	}
	if _, err := rdma.Open(t.Context(), softiwarp.New(softiwarp.Config{}), at, rdma.Options{}); err == nil {
		t.Error("an iSER connection was accepted")
	}
	readyLUN(t, connect(t, at.String(), nil), 0)
}

// TestISEROptions: what a portal does not want is not agreed on.
func TestISEROptions(t *testing.T) {
	for _, no := range []bool{false, true} {
		t.Run(fmt.Sprint(no), func(t *testing.T) {
			_, _, at := startOne(t, iserd.Limits{}, iserd.ISER(iserd.ISEROptions{NoRemoteInvalidation: no, NoInitialR2T: no}))
			c, err := rdma.Open(t.Context(), softiwarp.New(softiwarp.Config{}), at, rdma.Options{Invalidate: true})
			if err != nil {
				t.Fatal(err)
			}
			if got := iser.ReplyInvalidates(c.Reply); got == no {
				t.Errorf("Send with Invalidate agreed on: %v", got)
			}
			if err := c.Close(); err != nil {
				t.Error(err)
			}
			s := connectISER(t, at, rdma.Options{Invalidate: true}, func(o *initiator.Options) { o.InitialR2T = initiator.No })
			if got := s.Params().InitialR2T; got == no {
				t.Errorf("InitialR2T %v", got)
			}
			readyLUN(t, s, 0)
			roundTrip(t, s, 0, 300)
			if err := s.Logout(t.Context()); err != nil {
				t.Error(err)
			}
		})
	}
}

// outcome is how a connection ends that sends these bytes.
func outcome(t testing.TB, at netip.AddrPort, send []byte, finish bool) (got []byte, err error) {
	t.Helper()
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Write(send); err != nil {
		return nil, err
	}
	if finish {
		if err := c.(*net.TCPConn).CloseWrite(); err != nil {
			return nil, err
		}
	}
	return io.ReadAll(io.LimitReader(c, 1<<16))
}

// TestFirstBytes: whatever a connection begins with, only that connection ends.
func TestFirstBytes(t *testing.T) {
	_, _, at := startOne(t, iserd.Limits{LoginTimeout: 200 * time.Millisecond})
	witnesses := []*initiator.Session{connect(t, at.String(), nil), connectISER(t, at, rdma.Options{}, nil)}
	request := mpaRequest()
	try := func(name string, send []byte, finish bool) {
		t.Helper()
		if _, err := outcome(t, at, send, finish); errors.Is(err, errTimeout) {
			t.Errorf("%s: the connection is still there", name)
		}
	}
	for n := range request {
		try(fmt.Sprintf("closed after %d bytes", n), request[:n], true)
	}
	for _, n := range []int{0, 1, 15, 16, 19, 20, len(request) - 1} {
		try(fmt.Sprintf("silent after %d bytes", n), request[:n], false)
	}
	long := bytes.Clone(request)
	long[18], long[19] = 0xff, 0xff
	wrong := func(i int, b byte) []byte {
		out := bytes.Clone(request)
		out[i] = b
		return out
	}
	for name, send := range map[string][]byte{
		"all of a request, and silent": request,
		"a length that no frame has":   long,
		"a key that is another":        wrong(15, 'E'),
		"revision 0":                   wrong(17, 0),
		"revision 9":                   wrong(17, 9),
		"markers":                      wrong(16, 0x90),
		"a request and garbage":        append(bytes.Clone(request), bytes.Repeat([]byte{0xaa}, 100)...),
		"a request and much garbage":   append(bytes.Clone(request), bytes.Repeat([]byte{0xaa}, 1000)...),
		"an MPA reply":                 append([]byte("MPA ID Rep Frame"), request[16:]...),
		"M and a login":                append([]byte("M\x87"), make([]byte, 46)...),
		"zeros":                        make([]byte, 200),
		"an HTTP request":              []byte("GET / HTTP/1.1\r\nHost: target\r\nUser-Agent: a browser\r\n\r\n"),
	} {
		try(name, send, false)
	}
	for i, s := range witnesses {
		readyLUN(t, s, 0)
		roundTrip(t, s, uint32(1000*i), 17)
	}
}

var errTimeout = os.ErrDeadlineExceeded

// TestSlowRequest: a request that comes byte by byte is one.
func TestSlowRequest(t *testing.T) {
	_, _, at := startOne(t, iserd.Limits{})
	c, err := net.Dial("tcp", at.String())
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	for _, b := range mpaRequest() {
		if _, err := c.Write([]byte{b}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(time.Millisecond)
	}
	reply := make([]byte, 28)
	if _, err := io.ReadFull(c, reply); err != nil || string(reply[:16]) != "MPA ID Rep Frame" || reply[16]&0x20 != 0 {
		t.Errorf("reply % x, %v", reply, err)
	}
}

// FuzzFirstBytes sends what a connection may begin with, in two pieces.
func FuzzFirstBytes(f *testing.F) {
	_, _, at := startOne(f, iserd.Limits{LoginTimeout: 100 * time.Millisecond})
	request := mpaRequest()
	f.Add(request, 7)
	f.Add(request[:19], 16)
	f.Add(append(bytes.Clone(request), make([]byte, 64)...), 28)
	f.Add(append([]byte{0x43, 0x87}, make([]byte, 46)...), 48)
	f.Add([]byte("M"), 0)
	f.Fuzz(func(t *testing.T, b []byte, cut int) {
		if len(b) > 4096 {
			return
		}
		c, err := net.Dial("tcp", at.String())
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		if err := c.SetDeadline(time.Now().Add(20 * time.Second)); err != nil {
			t.Fatal(err)
		}
		cut = min(max(cut, 0), len(b))
		if _, err = c.Write(b[:cut]); err == nil {
			_, err = c.Write(b[cut:])
		}
		if err == nil && c.(*net.TCPConn).CloseWrite() == nil {
			_, err = io.Copy(io.Discard, c)
		}
		if errors.Is(err, errTimeout) {
			t.Error("the connection is still there")
		}
	})
}

func shutDown(srv *iserd.Server) error {
	ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
	defer cancel()
	return srv.Shutdown(ctx)
}
