package initiator_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"testing"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/internal/bench/tgt"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
)

func connect(t *testing.T, rawURL string, adjust func(*initiator.Options)) *initiator.Session {
	t.Helper()
	u, err := initiator.ParseURL(rawURL)
	if err != nil {
		t.Fatal(err)
	}
	s, err := initiator.Connect(testContext(t), u, adjust)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}

// rw10 is a READ(10) or WRITE(10) CDB, SBC-4 5.13 and 5.40.
func rw10(op byte, lba uint32, blocks int) []byte {
	cdb := make([]byte, 10)
	cdb[0] = op
	binary.BigEndian.PutUint32(cdb[2:], lba)
	binary.BigEndian.PutUint16(cdb[7:], uint16(blocks))
	return cdb
}

func mustGood(t *testing.T, r *initiator.Result, err error) *initiator.Result {
	t.Helper()
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Fatal(err)
	}
	return r
}

// clearUnitAttention sends TEST UNIT READY until the unit attention conditions
// of a new I_T nexus are gone.
func clearUnitAttention(t *testing.T, s *initiator.Session, lun pdu.LUN) {
	t.Helper()
	for range 4 {
		r, err := s.Exec(testContext(t), lun, make([]byte, 6), nil, 0)
		if err != nil {
			t.Fatal(err)
		}
		if r.Status == 0 {
			return
		}
	}
	t.Fatal("unit attention does not go away")
}

func writeRead(ctx context.Context, s *initiator.Session, lba uint32, data []byte) error {
	r, err := s.Exec(ctx, pdu.LUNOf(1), rw10(0x2a, lba, len(data)/512), data, 0)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("write: %w", err)
	}
	r, err = s.Exec(ctx, pdu.LUNOf(1), rw10(0x28, lba, len(data)/512), nil, len(data))
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		return fmt.Errorf("read: %w", err)
	}
	if !bytes.Equal(r.Data, data) {
		return errors.New("read differs from what was written")
	}
	return nil
}

func randomBytes(n int) []byte {
	b := make([]byte, n)
	_, _ = rand.NewChaCha8([32]byte{1}).Read(b)
	return b
}

func TestTgtReadWrite(t *testing.T) {
	srv := startTgt(t, 16<<20)
	tests := []struct {
		name string
		o    initiator.Options
	}{
		{"defaults", initiator.Options{}},
		{"digests", initiator.Options{HeaderDigest: "CRC32C,None", DataDigest: "CRC32C,None"}},
		{"header digest", initiator.Options{HeaderDigest: "CRC32C,None"}},
		{"R2T only", initiator.Options{InitialR2T: initiator.Yes, ImmediateData: initiator.No}},
		{"immediate", initiator.Options{InitialR2T: initiator.Yes, ImmediateData: initiator.Yes, FirstBurstLength: 4096}},
		{"unsolicited", initiator.Options{InitialR2T: initiator.No, ImmediateData: initiator.No, FirstBurstLength: 65536}},
		{"small bursts", initiator.Options{MaxBurstLength: 4096, FirstBurstLength: 1024, MaxRecvDataSegmentLength: 1024, MaxOutstandingR2T: 4}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s := connect(t, srv.URL(1), func(o *initiator.Options) {
				name := o.TargetName
				*o = tt.o
				o.TargetName = name
			})
			clearUnitAttention(t, s, pdu.LUNOf(1))
			for _, n := range []int{512, 4096, 65536, 1 << 20} {
				if err := writeRead(testContext(t), s, 7, randomBytes(n)); err != nil {
					t.Fatalf("%d bytes: %v (%+v)", n, err, s.Params())
				}
			}
			if err := s.Logout(testContext(t)); err != nil {
				t.Fatal(err)
			}
		})
	}
}

func TestTgtConcurrent(t *testing.T) {
	srv := startTgt(t, 16<<20)
	s := connect(t, srv.URL(1), nil)
	clearUnitAttention(t, s, pdu.LUNOf(1))
	ctx := testContext(t)
	var wg sync.WaitGroup
	for i := range 16 {
		wg.Go(func() {
			for n := range 20 {
				if err := writeRead(ctx, s, uint32(i*1024), randomBytes(512*(1+n))); err != nil {
					t.Error(err)
					return
				}
			}
		})
	}
	wg.Wait()
}

func TestTgtRequests(t *testing.T) {
	srv := startTgt(t, 1<<20)
	s := connect(t, srv.URL(1), nil)
	ctx := testContext(t)
	clearUnitAttention(t, s, pdu.LUNOf(1))
	t.Run("NOP", func(t *testing.T) {
		got, err := s.NOP(ctx, []byte("ping data"))
		if err != nil || string(got) != "ping data" {
			t.Errorf("echo %q, %v", got, err)
		}
	})
	t.Run("INQUIRY", func(t *testing.T) {
		r, err := s.Exec(ctx, pdu.LUNOf(1), []byte{0x12, 0, 0, 0, 255, 0}, nil, 255)
		mustGood(t, r, err)
		if !r.Underflow || int(r.Residual) != 255-len(r.Data) {
			t.Errorf("%d bytes, underflow %v, residual %d", len(r.Data), r.Underflow, r.Residual)
		}
	})
	t.Run("CHECK CONDITION", func(t *testing.T) {
		r, err := s.Exec(ctx, pdu.LUNOf(1), rw10(0x28, 0xffffff, 1), nil, 512)
		if err != nil {
			t.Fatal(err)
		}
		key, asc, ascq, ok := initiator.DecodeSense(r.Sense)
		if !ok || key != 5 || asc != 0x21 || ascq != 0 {
			t.Errorf("sense %x/%x/%x %v", key, asc, ascq, ok)
		}
	})
	t.Run("TMF", func(t *testing.T) {
		r, err := s.TaskManagement(ctx, pdu.LogicalUnitReset, pdu.LUNOf(1), nil)
		if err != nil || r != pdu.FunctionComplete {
			t.Errorf("%v, %v", r, err)
		}
	})
}

func TestTgtDiscover(t *testing.T) {
	srv := startTgt(t, 1<<20)
	const more = 300 // an answer over many PDUs
	for i := range more {
		tid := fmt.Sprint(i + 2)
		admin(t, srv, "--op", "new", "--mode", "target", "--tid", tid, "-T", fmt.Sprintf("%s-%03d", tgt.Target, i))
		admin(t, srv, "--op", "bind", "--mode", "target", "--tid", tid, "-I", "ALL")
	}
	got, err := initiator.Discover(testContext(t), srv.Addr, initiator.Options{MaxRecvDataSegmentLength: 512})
	if err != nil {
		t.Fatal(err)
	}
	if len(got) != more+1 || len(got[0].Addresses) != 1 || got[0].Addresses[0].Address != srv.Addr {
		t.Errorf("%d targets, first %+v", len(got), got[0])
	}
}

func TestTgtCHAP(t *testing.T) {
	srv := startTgt(t, 1<<20)
	admin(t, srv, "--op", "new", "--mode", "account", "--user", "joe", "--password", "joes-secret-123")
	admin(t, srv, "--op", "new", "--mode", "account", "--user", "disk", "--password", "disks-secret-456")
	admin(t, srv, "--op", "bind", "--mode", "account", "--tid", "1", "--user", "joe")
	admin(t, srv, "--op", "bind", "--mode", "account", "--tid", "1", "--user", "disk", "--outgoing")
	tests := []struct {
		name string
		chap initiator.CHAP
		ok   bool
		err  error
	}{
		{name: "one way", chap: initiator.CHAP{User: "joe", Secret: []byte("joes-secret-123")}, ok: true},
		{name: "none"},
		{name: "wrong secret", chap: initiator.CHAP{User: "joe", Secret: []byte("x")}},
		{name: "wrong user", chap: initiator.CHAP{User: "jo", Secret: []byte("joes-secret-123")}},
		{name: "mutual", chap: initiator.CHAP{
			User: "joe", Secret: []byte("joes-secret-123"), TargetUser: "disk", TargetSecret: []byte("disks-secret-456"),
		}, ok: true},
		{name: "wrong target secret", chap: initiator.CHAP{
			User: "joe", Secret: []byte("joes-secret-123"), TargetSecret: []byte("disks-secret-457"),
		}, err: initiator.ErrTargetAuthentication},
	}
	u, err := initiator.ParseURL(srv.URL(1))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := initiator.Connect(testContext(t), u, func(o *initiator.Options) {
				o.CHAP = tt.chap
				o.CHAP.Algorithms = []chap.Algorithm{chap.MD5} // tgt takes 7 for SHA-1
			})
			if err == nil {
				_ = s.Close()
			}
			var refused *initiator.LoginError
			switch {
			case tt.ok && err != nil:
				t.Error(err)
			case !tt.ok && tt.err == nil && (!errors.As(err, &refused) || refused.Status.Class() != 2):
				t.Errorf("error %v, want a refusal", err)
			case tt.err != nil && !errors.Is(err, tt.err):
				t.Errorf("error %v, want %v", err, tt.err)
			}
		})
	}
}
