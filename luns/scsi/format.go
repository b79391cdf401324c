package scsi

import "encoding/binary"

// formatOperations is FORMAT UNIT.
func formatOperations() []operation {
	return []operation{{
		name: "FORMAT UNIT", flags: opMedium | opWrite, class: accessWrite,
		usage:  []byte{0x04, 0xF8, 0, 0, 0, 0},
		decode: decodeFormat, run: runFormat,
	}}
}

// Lengths of the parameter list of FORMAT UNIT, SBC-4 5.4.2.
const (
	formatShortHeader = 4
	formatLongHeader  = 8
	formatPattern     = 4 // of the initialization pattern descriptor
)

// decodeFormat: the CDB does not say how long the parameter list is; it takes
// the longest that is possible, and runFormat corrects that.
func decodeFormat(c *Command) bool {
	b := c.CDB[1]
	switch {
	case b&0xC0 != 0: // FMTPINFO: no protection information
		return c.failField(inCDB, 1, 7)
	case b&0x10 == 0 && b&0x2F != 0: // LONGLIST, CMPLST, DEFECT LIST FORMAT without FMTDATA
		return c.failField(inCDB, 1, 4)
	case b&0x10 != 0:
		c.OutLen = c.formatHeader() + formatPattern + int(c.unit.blockSize)
	}
	if j := c.Nexus.port.medium.Load(); j != nil && (j.kind != formatting || !j.failed.Load()) {
		c.failMedium() // only another format mends a failed one
		return false
	}
	return true
}

func (c *Command) formatHeader() int {
	if c.CDB[1]&0x20 != 0 {
		return formatLongHeader
	}
	return formatShortHeader
}

// runFormat makes all blocks read as zeros, or as the initialization pattern.
// There are no defects and nothing to certify, so the options for these do
// nothing; defect lists are refused.
func runFormat(c *Command, m mode) bool {
	if m == inline {
		return false
	}
	j := &mediumJob{kind: formatting, passes: 1, pattern: make([]byte, c.unit.blockSize)}
	if c.CDB[1]&0x10 != 0 && !c.parseFormat(j) {
		return true
	}
	j.erase = c.unit.unmap != nil && c.unit.info.UnmapZeroes && allZero(j.pattern)
	return c.runJob(j)
}

// parseFormat is SBC-4 5.4.2; false if the command has failed.
func (c *Command) parseFormat(j *mediumJob) bool {
	p, header := c.Out[:min(len(c.Out), c.OutLen)], c.formatHeader()
	if len(p) < header {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return false
	}
	defects, at := int(binary.BigEndian.Uint16(p[2:])), 2
	if header == formatLongHeader {
		defects, at = int(binary.BigEndian.Uint32(p[4:])), 4
	}
	const fov, options, ip, immed = 0x80, 0x78, 0x08, 0x02
	switch b := p[1]; {
	case p[0]&0x07 != 0: // PROTECTION FIELD USAGE
		return c.failField(inParameterList, 0, 2)
	case b&fov == 0 && b&options != 0:
		return c.failField(inParameterList, 1, 6)
	case header == formatLongHeader && p[3] != 0: // protection information intervals
		return c.failField(inParameterList, 3, -1)
	case defects != 0:
		return c.failField(inParameterList, at, -1)
	case b&ip != 0 && !c.parseFormatPattern(j, p, header):
		return false
	case b&ip == 0:
		c.OutLen = header
	}
	if p[1]&immed != 0 {
		c.flags |= flagImmediate
	}
	return true
}

// parseFormatPattern is SBC-4 5.4.2.4.
func (c *Command) parseFormatPattern(j *mediumJob, p []byte, at int) bool {
	if len(p) < at+formatPattern {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return false
	}
	n := int(binary.BigEndian.Uint16(p[at+2:]))
	c.OutLen = at + formatPattern + n
	switch kind := p[at+1]; {
	case p[at]&0xC0 != 0: // obsolete
		return c.failField(inParameterList, at, 7)
	case kind == 0 && n == 0: // default pattern
		return true
	case kind != 1:
		return c.failField(inParameterList, at+1, -1)
	case n == 0, n > int(c.unit.blockSize):
		return c.failField(inParameterList, at+2, -1)
	case len(p) < c.OutLen:
		c.Fail(IllegalRequest, ParameterListLengthError)
		return false
	}
	j.pattern = repeatPattern(p[at+formatPattern:at+formatPattern+n], int(c.unit.blockSize))
	return true
}
