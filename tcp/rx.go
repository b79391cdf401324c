package tcp

import (
	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/internal/bufpool"
	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

const (
	// receiveBuffer holds the PDUs of one receive: 32 commands with 4 KiB of
	// immediate data and more.
	receiveBuffer = 256 << 10
	// minPlaced is how much of a data segment must be missing for it to be
	// received into its final place rather than into the buffer.
	minPlaced = 4 << 10
	// minFree is the room below which the bytes in the buffer are moved to
	// its front.
	minFree = 64 << 10
)

// receiver is the receive side of a connection: a buffer, and at most one PDU
// whose data segment is being received past the buffer into its place.
type receiver struct {
	buf    *bufpool.Buf // nil while there is nothing in it
	r, w   int
	undone bool   // there may be whole PDUs that wait for room in the send queue
	spare  []byte // when the pool is spent
	placed placedPDU
	iov    [2]unix.Iovec
	direct int // bytes of placed's segment that the receive under way may bring
}

// placedPDU is a PDU whose header is taken and whose data segment is not all
// here.
type placedPDU struct {
	active bool
	bhs    pdu.BHS
	ahs    []byte
	dst    []byte // the data segment's place
	got    int
	tail   int          // padding and digest behind it
	gather *bufpool.Buf // dst when nobody else gave a place
}

func (x *receiver) memory() []byte {
	if x.buf != nil {
		return x.buf.B
	}
	return x.spare
}

func (x *receiver) bytes() []byte { return x.memory()[x.r:x.w] }
func (x *receiver) consume(n int) { x.r += n }
func (x *receiver) capacity() int { return len(x.memory()) }
func (x *receiver) midPDU() bool  { return x.r < x.w || x.placed.active }

// space makes room and returns where the next bytes go.
func (x *receiver) space(p *bufpool.Pool) []unix.Iovec {
	if x.buf == nil && x.spare == nil {
		if x.buf = p.Get(receiveBuffer); x.buf == nil {
			x.spare = make([]byte, minFree)
		}
		x.r, x.w = 0, 0
	}
	m := x.memory()
	switch {
	case x.r == x.w:
		x.r, x.w = 0, 0
	case len(m)-x.w < min(minFree, len(m)/2):
		x.w = copy(m, m[x.r:x.w])
		x.r = 0
	}
	n := 0
	x.direct = 0
	if d := &x.placed; d.active && d.got < len(d.dst) {
		// The buffer is empty: its bytes came first.
		x.direct = min(len(d.dst)-d.got, maxReceive)
		x.iov[0] = iovec(d.dst[d.got : d.got+x.direct])
		if x.direct < len(d.dst)-d.got {
			return x.iov[:1] // what comes next is not for the buffer
		}
		n = 1
	}
	x.iov[n] = iovec(m[x.w:])
	return x.iov[:n+1]
}

// filled accounts for n received bytes.
func (x *receiver) filled(n int) {
	direct := min(n, x.direct)
	x.placed.got += direct
	x.w += n - direct
}

// discard drops what was received.
func (x *receiver) discard() {
	if g := x.placed.gather; g != nil {
		g.Release()
	}
	x.r, x.w, x.undone, x.placed = 0, 0, false, placedPDU{}
}

// idle lets go of an empty buffer: an idle connection holds none.
func (x *receiver) idle() {
	if x.r == x.w && x.buf != nil {
		x.buf.Release()
		x.buf = nil
	}
}

func (x *receiver) drop() {
	if x.buf != nil {
		x.buf.Release()
	}
	x.discard()
	*x = receiver{}
}

// place begins a PDU whose data segment is not all here.
func (c *Conn) place(h *pdu.BHS, ahs []byte, dsl int) error {
	d := &c.rx.placed
	d.active, d.bhs, d.got = true, *h, 0
	d.ahs = append(d.ahs[:0], ahs...)
	d.tail = c.dataLen(dsl) - dsl
	var err error
	if h.Opcode() == pdu.OpDataOut && h.TargetTransferTag() != pdu.ReservedTag {
		d.dst = c.beginDataOut(&d.bhs)
	} else if d.dst, err = c.engine.Begin(&d.bhs, d.ahs); err != nil {
		return err
	}
	if d.dst == nil {
		if d.gather = c.cfg.Receive.Get(dsl); d.gather != nil {
			d.dst = d.gather.B
		} else {
			d.dst = make([]byte, dsl)
		}
	}
	d.got = copy(d.dst, c.rx.bytes())
	c.rx.consume(d.got)
	return nil
}

// continuePlaced goes on with that PDU and delivers it when all is here.
func (c *Conn) continuePlaced() (bool, error) {
	d := &c.rx.placed
	if d.got < len(d.dst) {
		n := copy(d.dst[d.got:], c.rx.bytes())
		d.got += n
		c.rx.consume(n)
	}
	b := c.rx.bytes()
	if d.got < len(d.dst) || len(b) < d.tail {
		return false, nil
	}
	c.rx.consume(d.tail)
	if c.dataDigest {
		pad := d.tail - pdu.DigestLen
		crc := pdu.UpdateCRC32C(pdu.UpdateCRC32C(0, d.dst), b[:pad])
		if !pdu.CheckDigest(b[pad:], crc) {
			c.tapIn(&d.bhs, d.ahs, d.dst, iscsi.TapBadData)
			c.engine.CountDigestError(false)
			c.engine.Reject(&d.bhs, pdu.RejectDataDigestError)
			return false, errDataDigest
		}
	}
	d.active = false
	err := c.deliver(&d.bhs, d.ahs, d.dst)
	if d.gather != nil {
		d.gather.Release()
		d.gather = nil
	}
	d.dst = nil
	return true, err
}
