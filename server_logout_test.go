package iserd_test

import (
	"testing"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
)

// TestLogoutReleases: when a Logout has been answered the I_T nexus is gone, and
// with it what it had reserved: another initiator can reserve at once.
func TestLogoutReleases(t *testing.T) {
	_, addr := start(t)
	login := func(isid byte) *initiator.Session {
		s := connect(t, addr, func(o *initiator.Options) { o.ISID = pdu.ISID{0x80, 0, 0, 0, 0, isid} })
		readyLUN(t, s, 0)
		return s
	}
	reserve, release := []byte{0x16, 0, 0, 0, 0, 0}, []byte{0x17, 0, 0, 0, 0, 0}
	want := func(round int, s *initiator.Session, cdb []byte, status byte) {
		t.Helper()
		r, err := s.Exec(t.Context(), pdu.LUNOf(0), cdb, nil, 0)
		if err != nil || r.Status != status {
			t.Fatalf("round %d: CDB % X: %+v, %v, want status %#x", round, cdb, r, err, status)
		}
	}
	const good, conflict = 0x00, 0x18
	waiting := login(0x10)
	for i := range 50 {
		s := login(byte(i % 2))
		want(i, s, reserve, good)
		want(i, waiting, reserve, conflict)
		if err := s.Logout(t.Context()); err != nil {
			t.Fatal(err)
		}
		want(i, waiting, reserve, good)
		want(i, waiting, release, good)
	}
}
