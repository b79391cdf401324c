package scsi

import (
	"encoding/binary"
	"sync"
)

// CommandSequenceError is the additional sense code of a READ BUFFER too early.
const CommandSequenceError ASC = 0x2C00 // COMMAND SEQUENCE ERROR

// bufferBytes is the size of the data buffer and of the echo buffer.
const bufferBytes = 4096

// Modes of READ BUFFER and WRITE BUFFER, SPC-5 6.18 and 6.49.
const (
	bufferData           = 0x02
	bufferDescriptor     = 0x03
	bufferEcho           = 0x0A
	bufferEchoDescriptor = 0x0B
)

// buffers are the data buffer (buffer ID 0) and the echo buffer. Each nexus has
// its own: what one initiator writes, no other reads. A buffer exists from its
// first use on.
type buffers struct {
	mu   sync.Mutex
	data []byte // bufferBytes long, or nil for zeros
	echo []byte // what was written last; nil if nothing was
}

func bufferOperations() []operation {
	return []operation{
		{
			name: "WRITE BUFFER", class: accessManage,
			usage:  []byte{0x3B, 0x1F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0},
			decode: decodeWriteBuffer, run: runWriteBuffer,
		}, {
			name: "READ BUFFER(10)", class: accessRead,
			usage:  []byte{0x3C, 0x1F, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0},
			decode: decodeReadBuffer, run: runReadBuffer,
		},
	}
}

func uint24(b []byte) int { return int(b[0])<<16 | int(b[1])<<8 | int(b[2]) }

// bufferField checks what both commands share: MODE SPECIFIC is reserved, there
// is one data buffer, and the offset lies in it.
func (c *Command) bufferField() bool {
	switch {
	case c.CDB[1]&0xE0 != 0:
		return c.failField(inCDB, 1, 7)
	case c.CDB[1]&0x1F == bufferData && c.CDB[2] != 0:
		return c.failField(inCDB, 2, -1)
	case c.CDB[1]&0x1F == bufferData && uint24(c.CDB[3:]) > bufferBytes:
		return c.failField(inCDB, 3, -1)
	default:
		return true
	}
}

// decodeWriteBuffer refuses microcode and all else that a virtual disk has not.
func decodeWriteBuffer(c *Command) bool {
	c.OutLen = uint24(c.CDB[6:])
	room := bufferBytes
	switch c.CDB[1] & 0x1F {
	case bufferData:
		room -= uint24(c.CDB[3:])
	case bufferEcho:
	default:
		return c.failField(inCDB, 1, 4)
	}
	if !c.bufferField() {
		return false
	}
	if c.OutLen > room {
		return c.failField(inCDB, 6, -1)
	}
	return true
}

func runWriteBuffer(c *Command, _ mode) bool {
	if len(c.Out) < c.OutLen {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return true
	}
	b, p := &c.Nexus.buffers, c.Out[:c.OutLen]
	b.mu.Lock()
	defer b.mu.Unlock()
	if c.CDB[1]&0x1F == bufferEcho {
		b.echo = append(b.echo[:0], p...)
		return true
	}
	if len(p) == 0 {
		return true
	}
	if b.data == nil {
		b.data = make([]byte, bufferBytes)
	}
	copy(b.data[uint24(c.CDB[3:]):], p)
	return true
}

func decodeReadBuffer(c *Command) bool {
	c.setAlloc(uint64(uint24(c.CDB[6:])))
	switch c.CDB[1] & 0x1F {
	case bufferData, bufferDescriptor, bufferEcho, bufferEchoDescriptor:
		return c.bufferField()
	default:
		return c.failField(inCDB, 1, 4)
	}
}

func runReadBuffer(c *Command, _ mode) bool {
	b, out := &c.Nexus.buffers, c.build()
	b.mu.Lock()
	defer b.mu.Unlock()
	switch c.CDB[1] & 0x1F {
	case bufferDescriptor:
		// OFFSET BOUNDARY 0: any byte. Of a buffer that is not there the
		// descriptor is zeros.
		size := 0
		if c.CDB[2] == 0 {
			size = bufferBytes
		}
		out = binary.BigEndian.AppendUint32(out, uint32(size))
	case bufferEchoDescriptor:
		// EBOS: nobody else writes this buffer.
		out = append(out, 0x01, 0)
		out = binary.BigEndian.AppendUint16(out, bufferBytes)
	case bufferEcho:
		if b.echo == nil {
			c.Fail(IllegalRequest, CommandSequenceError)
			return true
		}
		out = append(out, b.echo...)
	default:
		at := uint24(c.CDB[3:])
		if b.data == nil {
			out = zeros(out, bufferBytes-at)
		} else {
			out = append(out, b.data[at:]...)
		}
	}
	c.reply(out)
	return true
}
