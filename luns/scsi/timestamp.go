package scsi

import (
	"encoding/binary"
	"sync/atomic"
	"time"
)

// TimestampChanged is the additional sense code of AttentionTimestampChanged.
const TimestampChanged ASC = 0x2A10 // TIMESTAMP CHANGED

// timestamp is the device clock, SPC-5 5.2: that of the host, until an initiator
// sets it to something else.
type timestamp struct {
	offset atomic.Int64 // milliseconds ahead of the host
	set    atomic.Bool
}

// Values of TIMESTAMP ORIGIN, SPC-5 table 27.
const (
	originInitiator = 0x02
	originHost      = 0x03
)

const timestampBytes = 12 // of the parameter data of both commands

func timestampOperations() []operation {
	return []operation{
		{
			name: "REPORT TIMESTAMP", flags: opService,
			usage:  []byte{0xA3, 0x0F, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeRSTMF, run: runReportTimestamp,
		}, {
			name: "SET TIMESTAMP", flags: opService, class: accessManage,
			usage:  []byte{0xA4, 0x0F, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeSetTimestamp, run: runSetTimestamp,
		},
	}
}

// runReportTimestamp is SPC-5 6.41: milliseconds since 1970 in 48 bits.
func runReportTimestamp(c *Command, _ mode) bool {
	t := &c.Nexus.port.clock
	origin := byte(originHost)
	if t.set.Load() {
		origin = originInitiator
	}
	now := uint64(time.Now().UnixMilli() + t.offset.Load())
	b := binary.BigEndian.AppendUint16(c.build(), timestampBytes-2)
	b = append(b, origin, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(now>>32))
	b = binary.BigEndian.AppendUint32(b, uint32(now))
	c.reply(append(b, 0, 0))
	return true
}

func decodeSetTimestamp(c *Command) bool {
	n := binary.BigEndian.Uint32(c.CDB[6:])
	c.OutLen = int(n)
	if n != 0 && n != timestampBytes {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return false
	}
	return true
}

// runSetTimestamp is SPC-5 6.47.
func runSetTimestamp(c *Command, _ mode) bool {
	if c.OutLen == 0 {
		return true // no error, and no change
	}
	if len(c.Out) < timestampBytes {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return true
	}
	p := c.Nexus.port
	want := int64(binary.BigEndian.Uint16(c.Out[4:]))<<32 | int64(binary.BigEndian.Uint32(c.Out[6:]))
	p.clock.offset.Store(want - time.Now().UnixMilli())
	p.clock.set.Store(true)
	p.Attention(AttentionTimestampChanged, c.Nexus)
	return true
}
