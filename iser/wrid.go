package iser

// A work request's identifier: op:8 | slot:12 | generation:20 | index:24. A
// completion whose generation is not that of the slot is one of an earlier
// connection.
type wrID uint64

// wrOp is what a work request is for.
type wrOp uint8

const (
	wrRecv  wrOp = iota + 1 // index: receive
	wrSend                  // index: send
	wrWrite                 // RDMA Write; unsignaled, so completed when it failed only
	wrRead                  // RDMA Read; index: transfer
	wrDrain                 // the last one of a send queue
)

const (
	slotBits  = 12
	genBits   = 20
	indexBits = 24
	maxSlots  = 1 << slotBits
)

func (c *Conn) wrID(op wrOp, index int) uint64 {
	return uint64(op)<<56 | uint64(c.slot)<<(genBits+indexBits) | uint64(c.gen)<<indexBits | uint64(index)
}

func (w wrID) op() wrOp    { return wrOp(w >> 56) }
func (w wrID) slot() int   { return int(w >> (genBits + indexBits) & (maxSlots - 1)) }
func (w wrID) gen() uint32 { return uint32(w >> indexBits & (1<<genBits - 1)) }
func (w wrID) index() int  { return int(w & (1<<indexBits - 1)) }
