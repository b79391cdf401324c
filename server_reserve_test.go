package iserd_test

import (
	"context"
	"encoding/binary"
	"net"
	"path/filepath"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/luns/file"
	"github.com/iserd/iserd/pdu"
)

// prout is a PERSISTENT RESERVE OUT with its parameter list, SPC-5 6.16.
func prout(action, kind byte, key, newKey uint64, aptpl bool) (cdb, list []byte) {
	cdb = make([]byte, 10)
	cdb[0], cdb[1], cdb[2], cdb[8] = 0x5f, action, kind, 24
	list = make([]byte, 24)
	binary.BigEndian.PutUint64(list, key)
	binary.BigEndian.PutUint64(list[8:], newKey)
	if aptpl {
		list[20] = 1
	}
	return cdb, list
}

// TestReservationsSurviveRestart: a reservation with APTPL fences other
// initiators after the server has been started anew.
func TestReservationsSurviveRestart(t *testing.T) {
	dir := t.TempDir()
	serve := func() (addr string, stop func()) {
		srv, err := iserd.NewServer(iserd.WithStateDir(dir))
		if err != nil {
			t.Fatal(err)
		}
		open, err := file.NewOpener(file.Options{Path: filepath.Join(dir, "disk"), Size: 1 << 20, Create: true})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := srv.AddTarget(t.Context(), testTarget, iserd.AnyInitiator(), iserd.LUNFrom(0, open)); err != nil {
			t.Fatal(err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		if _, err := srv.AddPortal(t.Context(), l); err != nil {
			t.Fatal(err)
		}
		return l.Addr().String(), func() {
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			if err := srv.Shutdown(ctx); err != nil {
				t.Error(err)
			}
		}
	}
	login := func(addr, name string) *initiator.Session {
		return connect(t, addr, func(o *initiator.Options) {
			o.InitiatorName, o.ISID = name, pdu.ISID{0x80, 0, 0, 1, 0, 1}
		})
	}
	status := func(s *initiator.Session, cdb, out []byte) byte {
		ready(t, s)
		r, err := s.Exec(t.Context(), 0, cdb, out, 0)
		if err != nil {
			t.Fatal(err)
		}
		return r.Status
	}

	addr, stop := serve()
	a := login(addr, "iqn.2026-11.com.example:a")
	const writeExclusive, key = 1, 0x1122334455667788
	cdb, list := prout(0, 0, 0, key, true) // REGISTER
	if st := status(a, cdb, list); st != 0 {
		t.Fatalf("REGISTER with APTPL: status %#x", st)
	}
	cdb, list = prout(1, writeExclusive, key, 0, false) // RESERVE
	if st := status(a, cdb, list); st != 0 {
		t.Fatalf("RESERVE: status %#x", st)
	}
	stop()

	addr, stop = serve()
	defer stop()
	a, b := login(addr, "iqn.2026-11.com.example:a"), login(addr, "iqn.2026-11.com.example:b")
	if st := status(b, cdb10(write10, 0, 1), make([]byte, 512)); st != 0x18 {
		t.Errorf("WRITE of another initiator: status %#x, want RESERVATION CONFLICT", st)
	}
	if st := status(a, cdb10(write10, 0, 1), make([]byte, 512)); st != 0 {
		t.Errorf("WRITE of the holder: status %#x", st)
	}
}
