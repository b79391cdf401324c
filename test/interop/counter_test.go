package interop_test

import (
	"encoding/binary"
	"os"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

// Eight initiators increment counters by COMPARE AND WRITE: each counter is in
// the end what was counted, and a miscompare tells where the difference is.
// ISERD_INCREMENTS is the number of increments (100,000).
func TestCompareAndWriteCounters(t *testing.T) {
	lab.Gate(t)
	const initiators, counters = 8, 4
	total := int64(100_000)
	if s := os.Getenv("ISERD_INCREMENTS"); s != "" {
		n, err := strconv.ParseInt(s, 10, 64)
		if err != nil || n < 1 {
			t.Fatalf("ISERD_INCREMENTS is %q, want a number from 1", s)
		}
		total = n
	}
	d := target.Start(t, target.Config{LUNs: []target.LUN{{Size: mib}}})
	c := &counting{lun: pdu.LUNOf(uint16(d.LUN(0)))}
	c.left.Store(total)
	begin := time.Now()
	var wg sync.WaitGroup
	for i := range initiators {
		wg.Go(func() { c.work(t, d.Portal(), i%counters, counters) })
	}
	wg.Wait()
	if t.Failed() {
		return
	}
	s := c.login(t, d.Portal())
	if s == nil {
		return
	}
	defer func() { _ = s.Close() }()
	for n := range counters {
		got := binary.BigEndian.Uint64(c.read(t, s, n)[counterAt:])
		if want := c.done[n].Load(); got != want {
			t.Errorf("counter %d is %d after %d increments", n, got, want)
		}
	}
	t.Logf("%d increments, %d miscompares, in %v", total, c.missed.Load(), time.Since(begin).Round(time.Millisecond))
	if c.missed.Load() == 0 {
		t.Error("no miscompare: nobody was in anybody's way")
	}
}

// counterAt is where in its block a counter is, in bytes.
const counterAt = 128

type counting struct {
	lun    pdu.LUN
	left   atomic.Int64
	done   [4]atomic.Uint64
	missed atomic.Int64
}

// login returns a session, nil after a failure.
func (c *counting) login(t *testing.T, portal string) *initiator.Session {
	u := initiator.URL{Address: portal, TargetName: target.IQN}
	s, err := initiator.Connect(t.Context(), u, nil)
	if err != nil {
		t.Error(err)
		return nil
	}
	for range 10 { // unit attentions
		if r, err := s.Exec(t.Context(), c.lun, make([]byte, 6), nil, 0); err == nil && r.Err() == nil {
			break
		}
	}
	return s
}

func (c *counting) read(t *testing.T, s *initiator.Session, block int) []byte {
	r, err := s.Exec(t.Context(), c.lun, []byte{0x28, 0, 0, 0, 0, byte(block), 0, 0, 1, 0}, nil, 512)
	if err == nil {
		err = r.Err()
	}
	if err != nil {
		t.Error(err)
		return make([]byte, 512)
	}
	return r.Data
}

// work increments the counters one after the other until all has been done.
func (c *counting) work(t *testing.T, portal string, first, counters int) {
	s := c.login(t, portal)
	if s == nil {
		return
	}
	defer func() { _ = s.Close() }()
	cdb := []byte{0x89, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0}
	both := make([]byte, 1024)
	for n := first; c.left.Add(-1) >= 0; n = (n + 1) % counters {
		cdb[9] = byte(n)
		for !t.Failed() {
			old := c.read(t, s, n)
			copy(both, old)
			copy(both[512:], old)
			binary.BigEndian.PutUint64(both[512+counterAt:], binary.BigEndian.Uint64(old[counterAt:])+1)
			r, err := s.Exec(t.Context(), c.lun, cdb, both, 0)
			if err != nil {
				t.Error(err)
				return
			}
			if r.Status == 0 {
				c.done[n].Add(1)
				break
			}
			c.miscompare(t, r)
		}
	}
}

// miscompare checks the sense data: the INFORMATION field is the offset of the
// first byte that differs, SBC-4 5.3.
func (c *counting) miscompare(t *testing.T, r *initiator.Result) {
	c.missed.Add(1)
	key, asc, ascq, _ := initiator.DecodeSense(r.Sense)
	if key != 0xE || asc != 0x1D || ascq != 0 || r.Sense[0] != 0xF0 {
		t.Errorf("COMPARE AND WRITE: %v", r.Err())
		return
	}
	if at := binary.BigEndian.Uint32(r.Sense[3:]); at < counterAt || at >= counterAt+8 {
		t.Errorf("miscompare at byte %d, the counter is at %d", at, counterAt)
	}
}
