package initiator

import (
	"github.com/iserd/iserd/pdu"
)

// txQueue gathers the PDUs of a batch as segments for one writev: headers and
// small data in an arena of its own, large data where it lies.
type txQueue struct {
	segs  [][]byte // what is to be sent, in order
	arena []byte   // backs the headers; its capacity is never exceeded, so that segments stay valid
	open  bool     // the last segment is the end of arena and may grow

	headerDigest, dataDigest bool
}

const (
	arenaSize  = 64 << 10
	copyBelow  = 512 // bytes: shorter data is cheaper to copy than to point to
	maxIOVecs  = 1024
	maxPDUHead = pdu.BHSLen + 2*pdu.DigestLen + 3 + copyBelow
)

// room returns n bytes at the end of the arena which are part of the queue.
func (q *txQueue) room(n int) []byte {
	if cap(q.arena)-len(q.arena) < n {
		q.arena, q.open = make([]byte, 0, max(arenaSize, n)), false
	}
	start := len(q.arena)
	q.arena = q.arena[:start+n]
	if !q.open {
		q.segs = append(q.segs, q.arena[start:])
		q.open = true
	} else {
		last := &q.segs[len(q.segs)-1]
		*last = (*last)[:len(*last)+n]
	}
	return q.arena[start:]
}

// add queues a PDU without AHS whose header already has its lengths. It
// borrows data until it is sent when data has copyBelow bytes or more.
func (q *txQueue) add(h *pdu.BHS, data []byte) {
	head := q.room(pdu.BHSLen) // the digest is taken here: package crc32 lets its argument escape
	copy(head, h[:])
	if q.headerDigest {
		pdu.PutDigest(q.room(pdu.DigestLen), pdu.UpdateCRC32C(0, head))
	}
	if len(data) == 0 {
		return
	}
	if len(data) < copyBelow {
		copy(q.room(len(data)), data)
	} else {
		q.segs = append(q.segs, data)
		q.open = false
	}
	pad := pdu.Pad(len(data))
	if pad > 0 {
		copy(q.room(pad), zeros)
	}
	if q.dataDigest {
		crc := pdu.UpdateCRC32C(0, data)
		for range pad {
			crc = pdu.UpdateCRC32C(crc, zeroByte[:])
		}
		pdu.PutDigest(q.room(pdu.DigestLen), crc)
	}
}

var zeroByte [1]byte

// sent removes the first n bytes of the queue.
func (q *txQueue) sent(n int) {
	i := 0
	for i < len(q.segs) && n >= len(q.segs[i]) {
		n -= len(q.segs[i])
		i++
	}
	if i < len(q.segs) {
		q.segs[i] = q.segs[i][n:]
		m := copy(q.segs, q.segs[i:])
		clear(q.segs[m:])
		q.segs = q.segs[:m]
		return
	}
	clear(q.segs)
	q.segs, q.arena, q.open = q.segs[:0], q.arena[:0], false
}

// empty tells whether everything was sent.
func (q *txQueue) empty() bool { return len(q.segs) == 0 }
