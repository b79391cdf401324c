package scsi

import (
	"bytes"
	"encoding/binary"
)

// The additional sense codes of SANITIZE and FORMAT UNIT.
const (
	FormatInProgress      ASC = 0x0404 // LOGICAL UNIT NOT READY, FORMAT IN PROGRESS
	SanitizeInProgress    ASC = 0x041B // LOGICAL UNIT NOT READY, SANITIZE IN PROGRESS
	MediumFormatCorrupted ASC = 0x3100 // MEDIUM FORMAT CORRUPTED
	FormatCommandFailed   ASC = 0x3101 // FORMAT COMMAND FAILED
	SanitizeCommandFailed ASC = 0x3103 // SANITIZE COMMAND FAILED
)

// Service actions of SANITIZE, SBC-4 5.30.
const (
	sanitizeOverwrite  = 0x01
	sanitizeBlockErase = 0x02
	sanitizeExit       = 0x1F
)

// sanitizeHeader is the length of the OVERWRITE parameter list before the
// pattern, SBC-4 5.30.2.2.
const sanitizeHeader = 4

// sanitizeOperations are the sanitize operations that a disk over a backend can
// honestly perform: OVERWRITE, and BLOCK ERASE by overwriting with zeros what is
// allocated before it is given back. There is no key to forget, so there is no
// CRYPTOGRAPHIC ERASE. What lies under the backend may keep copies (snapshots,
// journals, remapped blocks); that is for its operator to know.
func sanitizeOperations() []operation {
	sanitize := func(action, b1 byte) []byte {
		return []byte{0x48, action | b1, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0}
	}
	return []operation{
		{name: "SANITIZE (OVERWRITE)", flags: opService | opMedium | opWrite, class: accessWrite, usage: sanitize(sanitizeOverwrite, 0xA0), decode: decodeSanitize, run: runSanitize},
		{name: "SANITIZE (BLOCK ERASE)", flags: opService | opMedium | opWrite, class: accessWrite, needs: capUnmap, usage: sanitize(sanitizeBlockErase, 0xA0), decode: decodeSanitize, run: runSanitize},
		{name: "SANITIZE (EXIT FAILURE MODE)", flags: opService, class: accessWrite, usage: sanitize(sanitizeExit, 0), decode: decodeSanitize, run: runSanitizeExit},
	}
}

// decodeSanitize also refuses reserved bits: a command that destroys everything
// should be understood in full.
func decodeSanitize(c *Command) bool {
	c.OutLen = int(binary.BigEndian.Uint16(c.CDB[7:]))
	if c.CDB[1]&0x40 != 0 { // ZNR
		return c.failField(inCDB, 1, 6)
	}
	for i := 2; i < 7; i++ {
		if c.CDB[i] != 0 {
			return c.failField(inCDB, i, -1)
		}
	}
	switch overwrite := c.op.action() == sanitizeOverwrite; {
	case !overwrite && c.OutLen != 0,
		overwrite && (c.OutLen <= sanitizeHeader || c.OutLen > sanitizeHeader+int(c.unit.blockSize)):
		return c.failField(inCDB, 7, -1)
	}
	if c.CDB[1]&0x80 != 0 {
		c.flags |= flagImmediate
	}
	return c.checkSanitizeState()
}

// checkSanitizeState applies the states of SBC-4 4.11.4: while an operation
// runs, none can be started; after one has failed that did not allow the
// unrestricted exit, no other may allow it, and EXIT FAILURE MODE is refused.
func (c *Command) checkSanitizeState() bool {
	j := c.Nexus.port.medium.Load()
	if j == nil {
		return true
	}
	exit := c.op.action() == sanitizeExit
	switch {
	case !j.failed.Load(), j.kind != sanitizing && exit:
		c.failMedium()
		return false
	case j.kind == sanitizing && !j.unrestricted && (exit || c.CDB[1]&0x20 != 0):
		return c.failField(inCDB, 1, 5)
	default:
		return true
	}
}

func runSanitize(c *Command, m mode) bool {
	j := &mediumJob{
		kind: sanitizing, unrestricted: c.CDB[1]&0x20 != 0,
		pattern: make([]byte, c.unit.blockSize), passes: 1,
	}
	if c.op.action() == sanitizeOverwrite {
		if !c.parseOverwrite(j) {
			return true
		}
	} else {
		j.erase = true
	}
	if m == inline {
		return false
	}
	return c.runJob(j)
}

// parseOverwrite is SBC-4 5.30.2.2.
func (c *Command) parseOverwrite(j *mediumJob) bool {
	p := c.Out[:min(len(c.Out), c.OutLen)]
	if len(p) < c.OutLen {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return false
	}
	n := int(binary.BigEndian.Uint16(p[2:]))
	switch {
	case p[0]&0x60 != 0: // TEST
		return c.failField(inParameterList, 0, 6)
	case p[0]&0x1F == 0: // OVERWRITE COUNT
		return c.failField(inParameterList, 0, 4)
	case n == 0, n > len(p)-sanitizeHeader: // INITIALIZATION PATTERN LENGTH
		return c.failField(inParameterList, 2, -1)
	}
	j.invert, j.passes = p[0]&0x80 != 0, int(p[0]&0x1F)
	j.pattern = repeatPattern(p[sanitizeHeader:sanitizeHeader+n], int(c.unit.blockSize))
	return true
}

// repeatPattern returns a block filled with repetitions of p, the last cut off.
func repeatPattern(p []byte, blockSize int) []byte {
	return bytes.Repeat(p, blockSize/len(p)+1)[:blockSize]
}

// runSanitizeExit is SBC-4 5.30.2.5.
func runSanitizeExit(c *Command, _ mode) bool {
	p := c.Nexus.port
	if j := p.medium.Load(); j != nil && j.kind == sanitizing && j.failed.Load() {
		p.endJob(j)
	}
	return true
}
