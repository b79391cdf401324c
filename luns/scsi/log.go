package scsi

import (
	"encoding/binary"
)

// logList is the parameter control byte of binary lists, SPC-5 7.3.2: FORMAT
// AND LINKING 11b.
const logList = 0x03

// logPage is one log page. appendTo appends the parameters from code from on.
type logPage struct {
	code, subpage byte
	needs         caps
	last          uint16 // the last parameter code
	blocks        bool   // asks the backend
	appendTo      func(c *Command, from uint16, b []byte) ([]byte, error)
}

// logPages returns the pages in ascending order. A disk of software has no more
// to say that is true: nothing is counted of errors that others have corrected,
// temperatures, or wear.
func logPages() []logPage {
	return []logPage{
		{code: 0x00, appendTo: appendLogPages},
		{code: 0x00, subpage: 0xFF, appendTo: appendLogPages},
		{code: 0x0C, needs: capResources, last: 2, blocks: true, appendTo: appendThinLog},
		{code: 0x19, last: 3, appendTo: appendStatistics},
		{code: 0x2F, appendTo: appendExceptions},
	}
}

func logOperations() []operation {
	return []operation{
		{
			name: "LOG SELECT", class: accessManage,
			usage:  []byte{0x4C, 0x03, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0},
			decode: decodeLogSelect, run: runLogSelect,
		}, {
			name:   "LOG SENSE",
			usage:  []byte{0x4D, 0x01, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0},
			decode: decodeLogSense, run: runLogSense,
		},
	}
}

// logPage returns the page of a CDB, nil if the unit does not have it.
func (c *Command) logPage() *logPage {
	for _, p := range logPages() {
		if p.code == c.CDB[2]&0x3F && p.subpage == c.CDB[3] && p.needs&^c.unit.caps == 0 {
			return &p
		}
	}
	return nil
}

func decodeLogSense(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint16(c.CDB[7:])))
	p := c.logPage()
	switch {
	case p == nil:
		return c.failField(inCDB, 2, 5)
	case c.CDB[1]&0x01 != 0: // SP: nothing is saved
		return c.failField(inCDB, 1, 0)
	case c.CDB[2]>>6 != 1 && c.CDB[2]&0x3F == 0x19: // PC: cumulative values only
		return c.failField(inCDB, 2, 7)
	case binary.BigEndian.Uint16(c.CDB[5:]) > p.last: // PARAMETER POINTER
		return c.failField(inCDB, 5, -1)
	default:
		return true
	}
}

// runLogSense is SPC-5 6.9.
func runLogSense(c *Command, m mode) bool {
	p := c.logPage()
	if p == nil || p.blocks && m == inline {
		return p == nil
	}
	b := append(c.build(), p.code, p.subpage, 0, 0)
	if p.subpage != 0 {
		b[0] |= 0x40 // SPF
	}
	b, err := p.appendTo(c, binary.BigEndian.Uint16(c.CDB[5:]), b)
	if err != nil {
		c.failBackend(err, reading)
		return true
	}
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)-4))
	c.reply(b)
	return true
}

// appendLogPages lists the pages, SPC-5 7.3.20, with subpage FFh the subpages as
// well, 7.3.21.
func appendLogPages(c *Command, _ uint16, b []byte) ([]byte, error) {
	for _, p := range logPages() {
		switch subpages := c.CDB[3] == 0xFF; {
		case p.needs&^c.unit.caps != 0:
		case subpages:
			b = append(b, p.code, p.subpage)
		case p.subpage == 0:
			b = append(b, p.code)
		}
	}
	return b, nil
}

// appendExceptions is Informational Exceptions, SPC-5 7.3.9: none, and no
// thermometer.
func appendExceptions(_ *Command, _ uint16, b []byte) ([]byte, error) {
	return append(b, 0, 0, logList, 4, 0, 0, 0xFF, 0), nil
}

// statistics are the counters that General Access Statistics and Performance
// tells.
type statistics struct {
	reads, writes           uint64 // commands
	received, transmitted   uint64 // blocks
	readNanos, writtenNanos uint64 // of processing
}

func (s *statistics) sub(o *statistics) {
	s.reads -= o.reads
	s.writes -= o.writes
	s.received -= o.received
	s.transmitted -= o.transmitted
	s.readNanos -= o.readNanos
	s.writtenNanos -= o.writtenNanos
}

func (c *Command) statistics() statistics {
	s, shift := c.Nexus.port.Stats(), c.unit.blockShift
	return statistics{
		reads: s.Ops[OpRead], writes: s.Ops[OpWrite],
		received: s.BytesWritten >> shift, transmitted: s.BytesRead >> shift,
		readNanos:    s.Latency[LatencyRead][StageBackend].Nanoseconds,
		writtenNanos: s.Latency[LatencyWrite][StageBackend].Nanoseconds,
	}
}

// appendStatistics is SPC-5 7.3.7. The interval of processing times is a
// microsecond; every command has the weight one. Idle time is not known.
func appendStatistics(c *Command, from uint16, b []byte) ([]byte, error) {
	if from <= 1 {
		s := c.statistics()
		if base := c.Nexus.port.logBase.Load(); base != nil {
			s.sub(base)
		}
		b = append(b, 0, 1, logList, 64)
		for _, x := range []uint64{
			s.reads, s.writes, s.received, s.transmitted, s.readNanos / 1000, s.writtenNanos / 1000,
			s.reads + s.writes, s.readNanos/1000 + s.writtenNanos/1000,
		} {
			b = binary.BigEndian.AppendUint64(b, x)
		}
	}
	if from <= 3 { // Time Interval: INTEGER × 10 to the -EXPONENT seconds
		b = append(b, 0, 3, logList, 8, 0, 0, 0, 6, 0, 0, 0, 1)
	}
	return b, nil
}

// decodeLogSelect: no parameter can be set.
func decodeLogSelect(c *Command) bool {
	c.OutLen = int(binary.BigEndian.Uint16(c.CDB[7:]))
	switch {
	case c.CDB[1]&0x01 != 0: // SP
		return c.failField(inCDB, 1, 0)
	case c.OutLen != 0:
		return c.failField(inCDB, 7, -1)
	case c.CDB[2]&0x3F|c.CDB[3] != 0 && c.logPage() == nil:
		return c.failField(inCDB, 2, 5)
	default:
		return true
	}
}

// runLogSelect resets the counters with PCR, SPC-5 6.8: all of them or those of
// one page, which is the same here.
func runLogSelect(c *Command, _ mode) bool {
	if page := c.CDB[2] & 0x3F; c.CDB[1]&0x02 != 0 && (page == 0 || page == 0x19) {
		s := c.statistics()
		c.Nexus.port.logBase.Store(&s)
	}
	return true
}
