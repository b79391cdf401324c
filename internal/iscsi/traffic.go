package iscsi

import (
	"math/bits"
	"sync/atomic"

	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// opcodes is the number of opcodes, RFC 7143 §11.2.1.2. Bit 5 of one is the
// direction.
const opcodes = 64

// Traffic counts PDUs. It is written by connections, any number of which may
// share it, and read by anybody.
type Traffic struct {
	pdus         [opcodes]atomic.Uint64
	header, data atomic.Uint64 // digest errors
	_            [8]uint64     // nobody else's cache line
}

// TrafficTotals are the counts of Traffic.
type TrafficTotals struct {
	PDUs                       [opcodes]uint64 // by opcode: one that a target sends is at 20h or above
	HeaderDigests, DataDigests uint64          // PDUs received with a wrong digest
}

// AddTo adds the counts so far to t.
func (x *Traffic) AddTo(t *TrafficTotals) {
	for i := range x.pdus {
		t.PDUs[i] += x.pdus[i].Load()
	}
	t.HeaderDigests += x.header.Load()
	t.DataDigests += x.data.Load()
}

// counted is what a connection has counted since it published. Within a turn
// counting is plain arithmetic; the atomic additions come once for each turn and
// opcode.
type counted struct {
	pdus    [opcodes]uint32
	dirty   uint64        // has a bit for each opcode with a count
	nexuses []*scsi.Nexus // that have answered commands
}

// Count counts a PDU that was received whole, or is queued. It is for the
// datamover, in the connection's context.
func (c *Conn) Count(op pdu.Opcode) {
	i := op % opcodes
	c.counted.pdus[i]++
	c.counted.dirty |= 1 << i
}

// CountDigestError counts a PDU whose header or data digest is wrong.
func (c *Conn) CountDigestError(header bool) {
	if header {
		c.traffic.header.Add(1)
	} else {
		c.traffic.data.Add(1)
	}
}

// Publish makes what was counted visible. Its owner calls it after each turn.
func (c *Conn) Publish() {
	for d := c.counted.dirty; d != 0; d &= d - 1 {
		i := bits.TrailingZeros64(d)
		c.traffic.pdus[i].Add(uint64(c.counted.pdus[i]))
		c.counted.pdus[i] = 0
	}
	c.counted.dirty = 0
	for i, n := range c.counted.nexuses {
		n.Publish()
		c.counted.nexuses[i] = nil
	}
	c.counted.nexuses = c.counted.nexuses[:0]
}
