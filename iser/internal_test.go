package iser

import (
	"errors"
	"runtime"
	"strings"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestPrivateData(t *testing.T) {
	for _, tt := range []struct {
		name string
		req  []byte
		want bool
	}{
		{"none, iWARP", nil, false},
		{"none, InfiniBand: zeros", make([]byte, 56), false},
		{"Linux", []byte{0x80, 0, 0, 0}, true},
		{"Linux, padded", append([]byte{0x80}, make([]byte, 55)...), true},
		{"Linux without always_register", []byte{0xc0, 0, 0, 0}, false},
		{"invalidation alone means nothing", []byte{0x00, 0, 0, 0}, false},
		{"short", []byte{0x80, 0, 0}, false},
	} {
		if got := acceptsInvalidate(tt.req); got != tt.want {
			t.Errorf("%s: %v", tt.name, got)
		}
	}
	for _, inv := range []bool{false, true} {
		if ReplyInvalidates(replyPrivate(inv)) != inv || len(replyPrivate(inv)) != 4 {
			t.Errorf("reply for %v: %x", inv, replyPrivate(inv))
		}
	}
}

// What libiscsi sends is told from what is merely wrong.
func TestExplain(t *testing.T) {
	for _, tt := range []struct {
		name  string
		op    pdu.Opcode
		flags byte
		extra int // bytes of data that are there
		want  bool
	}{
		{"libiscsi", pdu.OpSCSICommand, 0x18, 0, true},
		{"some of the data", pdu.OpSCSICommand, 0x18, 4, false},
		{"no Write STag", pdu.OpSCSICommand, 0x10, 0, false},
		{"NOP-Out", pdu.OpNOPOut, 0x18, 0, false},
	} {
		b := make([]byte, HeaderLen+pdu.BHSLen+tt.extra)
		b[0] = tt.flags
		h := (*pdu.BHS)(b[HeaderLen:])
		h[0] = byte(tt.op)
		h.SetDataSegmentLength(512)
		var m Message
		err := explain(m.Decode(b), b)
		if !errors.Is(err, ErrLength) || strings.Contains(err.Error(), "immediate_data = false") != tt.want {
			t.Errorf("%s: %v", tt.name, err)
		}
	}
}

func TestWrID(t *testing.T) {
	c := &Conn{slot: maxSlots - 1, gen: 1<<genBits - 1}
	id := wrID(c.wrID(wrRead, 1<<indexBits-1))
	if id.op() != wrRead || id.slot() != c.slot || id.gen() != c.gen || id.index() != 1<<indexBits-1 {
		t.Errorf("%#x", uint64(id))
	}
	c = &Conn{slot: 5, gen: 6}
	if id = wrID(c.wrID(wrSend, 7)); id.op() != wrSend || id.slot() != 5 || id.gen() != 6 || id.index() != 7 {
		t.Errorf("%#x", uint64(id))
	}
}

func TestPerCommand(t *testing.T) {
	for _, tt := range []struct {
		r2t, imm    bool
		first, data int
		want        int
	}{
		{true, true, 262144, 8192, 1},
		{false, true, 8192, 8192, 1},
		{false, true, 8193, 8192, 2},
		{false, false, 8192, 8192, 2},
		{false, true, 262144, 8192, 32},
		{false, false, 262144, 8192, 33},
	} {
		p := login.Params{InitialR2T: tt.r2t, ImmediateData: tt.imm, FirstBurstLength: tt.first, MaxRecvDataSegmentLength: tt.data}
		if got := perCommand(&p); got != tt.want {
			t.Errorf("%+v: %d", tt, got)
		}
	}
}

// Sense data that does not fit is cut, with both lengths.
func TestCutSense(t *testing.T) {
	data := make([]byte, 254)
	data[1] = 252
	var h pdu.BHS
	h.SetDataSegmentLength(len(data))
	got := cutSense(&h, data)
	if len(got) != 128 || got[0] != 0 || got[1] != 126 || h.DataSegmentLength() != 128 {
		t.Errorf("%d bytes, length %x, header %d", len(got), got[:2], h.DataSegmentLength())
	}
}

// With one place to run at, a goroutine that waits for it runs when another yields.
func TestYield(t *testing.T) {
	defer runtime.GOMAXPROCS(runtime.GOMAXPROCS(1))
	var ran atomic.Bool
	go ran.Store(true)
	for i := 0; !ran.Load(); i++ {
		if i == 1000 {
			t.Fatal("nobody else has run")
		}
		goyield()
	}
}
