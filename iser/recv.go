package iser

import (
	"errors"
	"fmt"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

const (
	// maxAHS is the room for additional header segments: the default of
	// MaxAHSLength, RFC 7145 §6.9.
	maxAHS = 256
	// maxControlData is the longest data segment of a login, and of what the
	// initiator sends in a discovery session.
	maxControlData = 8192

	loginRecvs     = 2 // the initiator waits for each Login Response
	discoveryRecvs = 6
	reserve        = 24  // receives for PDUs that no window bounds
	maxRecvs       = 512 // of one connection
	// minSends is the room for responses below which no receive is posted.
	minSends = 2 * reserve
)

// received is a receive that has completed.
type received struct{ index, n int }

// recvQueue are the receives of a connection.
type recvQueue struct {
	mem    [][]byte
	wr     []verbs.RecvWR
	idle   []int // to be posted
	post   []verbs.RecvWR
	posted int
}

// add makes receives of the memory, each of size bytes.
func (c *Conn) addRecvs(mem []byte, n, size int) error {
	lkey, ok := c.pump.dev.pool.LKey(mem)
	if !ok {
		return errMemory
	}
	q := &c.recv
	for i := range n {
		b := mem[i*size : (i+1)*size : (i+1)*size]
		index := len(q.mem)
		q.mem = append(q.mem, b)
		q.wr = append(q.wr, verbs.RecvWR{
			ID: c.wrID(wrRecv, index),
			SG: []verbs.SGE{{Addr: verbs.Addr(b), Len: uint32(size), LKey: lkey}},
		})
		q.idle = append(q.idle, index)
	}
	return nil
}

// recvSize is the length of a receive for data segments of up to data bytes.
func recvSize(data int) int {
	n := HeaderLen + pdu.BHSLen + maxAHS + max(data, maxControlData)
	return (n + 63) &^ 63
}

// perCommand is how many PDUs a command may take: its own, and unsolicited
// Data-Out PDUs.
func perCommand(p *login.Params) int {
	if p.InitialR2T {
		return 1
	}
	rest := p.FirstBurstLength
	if p.ImmediateData {
		rest -= min(p.FirstBurstLength, p.MaxRecvDataSegmentLength)
	}
	return 1 + (rest+p.MaxRecvDataSegmentLength-1)/p.MaxRecvDataSegmentLength
}

// maxWindow is how many receives of the queue pair are for commands.
func (c *Conn) maxWindow() int { return min(maxRecvs, c.qp.Cap().MaxRecvWR-loginRecvs) - reserve }

// CommandWindow implements iscsi.RDMA.
func (c *Conn) CommandWindow(p *login.Params) int {
	return max(1, min(c.maxWindow()/perCommand(p), c.maxSends()/2-reserve, c.pump.dev.cfg.CommandWindow))
}

// enlarge adds the receives and sends of the full feature phase.
func (c *Conn) enlarge(p *login.Params) error {
	n, sends := discoveryRecvs, 2*discoveryRecvs
	if p.RDMAExtensions {
		w := c.CommandWindow(p)
		n = reserve + w*perCommand(p)
		sends = 2*(w+reserve) + 2*signalEvery
	}
	size := recvSize(p.MaxRecvDataSegmentLength)
	for n > 0 {
		// Blocks of the pool are powers of two: 1 MiB wastes little.
		part := min(n, max(1, (1<<20)/size))
		b := c.account.Get(part * size)
		if b == nil {
			return errMemory
		}
		c.memory = append(c.memory, b)
		if err := c.addRecvs(b.B, part, size); err != nil {
			return err
		}
		n -= part
	}
	return c.addSends(sends)
}

// received takes one message. A receive buffer is free again when the iSCSI
// layer has returned.
func (c *Conn) received(index, n int) {
	if c.err != nil || c.closed {
		return
	}
	if !c.lingering {
		if err := c.take(c.recv.mem[index][:min(n, len(c.recv.mem[index]))]); err != nil {
			c.end(err)
		}
	}
	c.recv.idle = append(c.recv.idle, index)
	if len(c.send.queue) >= postEvery && c.err == nil {
		c.post()
	}
}

// end takes what the iSCSI layer says about the connection.
func (c *Conn) end(err error) {
	if errors.Is(err, iscsi.ErrLoggedOut) || errors.Is(err, iscsi.ErrLoginFailed) {
		c.lingering = true
		return
	}
	c.fail(err)
}

func (c *Conn) take(b []byte) error {
	var m Message
	if c.hello {
		return c.takeHello(b)
	}
	if err := m.Decode(b); err != nil {
		return explain(err, b)
	}
	if limit := c.maxData(); len(m.Data) > limit {
		return fmt.Errorf("%v with a data segment of %d bytes, more than the %d declared", m.BHS.Opcode(), len(m.Data), limit)
	}
	c.engine.Count(m.BHS.Opcode())
	if t := c.engine.Tap(); t != nil {
		t.PDU(m.BHS, m.AHS, m.Data, 0)
	}
	return c.engine.ReceiveRemote(m.BHS, m.AHS, m.Data, iscsi.RemoteBuffers{
		WriteSTag: m.Header.WriteSTag, WriteBase: m.Header.WriteBase,
		ReadSTag: m.Header.ReadSTag, ReadBase: m.Header.ReadBase,
	})
}

// explain says what is to be done about a message that can't be taken apart, where
// that is known: libiscsi announces immediate data and has all of it read by RDMA.
func explain(err error, b []byte) error {
	if !errors.Is(err, ErrLength) || len(b) != HeaderLen+pdu.BHSLen || b[0]&flagWSV == 0 {
		return err
	}
	h := (*pdu.BHS)(b[HeaderLen:])
	if h.Opcode() != pdu.OpSCSICommand {
		return err
	}
	return fmt.Errorf("%w: a command without any of its %d bytes of immediate data, as libiscsi sends it: its target needs session { immediate_data = false }",
		err, h.DataSegmentLength())
}

func (c *Conn) maxData() int {
	if c.normal {
		return c.engine.Params().MaxRecvDataSegmentLength
	}
	return maxControlData
}

// takeHello answers the Hello of an initiator that has negotiated
// iSERHelloRequired=Yes, RFC 7145 §5.1.3.
func (c *Conn) takeHello(b []byte) error {
	if op, err := MessageOpcode(b); err != nil || op != OpHello {
		return errUnexpected
	}
	var h Hello
	if err := h.Decode(b); err != nil {
		return err
	}
	c.hello = false
	c.depth = min(c.depth, int(h.IRD))
	s := c.takeSlot(HeaderLen)
	if s < 0 {
		return errMemory
	}
	r := HelloReply{MaxVersion: version, Version: min(max(version, h.MinVersion), h.MaxVersion), ORD: uint16(c.depth)}
	r.Encode(c.send.slots[s].mem)
	c.pushSend(s, HeaderLen, 0)
	return nil
}

// postRecvs posts what is idle, unless too many responses wait.
func (c *Conn) postRecvs() {
	q := &c.recv
	if len(q.idle) == 0 || c.normal && len(c.send.free) < minSends {
		return
	}
	q.post = q.post[:0]
	for _, i := range q.idle {
		q.post = append(q.post, q.wr[i])
	}
	n, err := c.qp.PostRecv(q.post)
	q.posted += n
	q.idle = append(q.idle[:0], q.idle[n:]...)
	if err != nil {
		c.fail(fmt.Errorf("%w: %w", errPosting, err))
	}
}
