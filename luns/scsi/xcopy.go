package scsi

import (
	"encoding/binary"
)

// The additional sense codes of copy operations.
const (
	OperationInProgress          ASC = 0x0016 // OPERATION IN PROGRESS
	ThirdPartyDeviceFailure      ASC = 0x0D01 // THIRD PARTY DEVICE FAILURE
	CopyTargetNotReachable       ASC = 0x0D02 // COPY TARGET DEVICE NOT REACHABLE
	IncorrectCopyTargetType      ASC = 0x0D03 // INCORRECT COPY TARGET DEVICE TYPE
	TooManyTargetDescriptors     ASC = 0x2606 // TOO MANY TARGET DESCRIPTORS
	UnsupportedTargetDescriptor  ASC = 0x2607 // UNSUPPORTED TARGET DESCRIPTOR TYPE CODE
	TooManySegmentDescriptors    ASC = 0x2608 // TOO MANY SEGMENT DESCRIPTORS
	UnsupportedSegmentDescriptor ASC = 0x2609 // UNSUPPORTED SEGMENT DESCRIPTOR TYPE CODE
	UnexpectedInexactSegment     ASC = 0x260A // UNEXPECTED INEXACT SEGMENT
	InlineDataLengthExceeded     ASC = 0x260B // INLINE DATA LENGTH EXCEEDED
)

// Limits of one EXTENDED COPY, told by RECEIVE COPY OPERATING PARAMETERS and
// the Third-party Copy VPD page.
const (
	maxCSCDs          = 64
	maxSegments       = 64
	maxDescriptorList = maxCSCDs*cscdLen + maxSegments*segmentLen
	maxSegmentBytes   = 0xFFFF * 4096 // what the number of blocks can say
)

// Descriptor type codes and lengths, SPC-5 6.6.5 and 6.6.6.
const (
	codeBlockToBlock   = 0x02 // segment: block device to block device
	codeIdentification = 0xE4 // CSCD: by an identification descriptor
	cscdLen            = 32
	segmentLen         = 28

	copyHeaderLID1 = 16
	copyHeaderLID4 = 48

	// cscdSelf is the CSCD descriptor ID of the logical unit that has the copy
	// manager, SPC-5 table 130.
	cscdSelf = 0xFFFF
)

// Values of LIST ID USAGE, SPC-4 6.4.3.2.
const (
	listHold    = 0
	listDiscard = 2
	listNone    = 3
)

// copyOperations are the third-party copy commands, SPC-5 5.17. Only copies
// from block device to block device are supported: what hypervisors ask for.
// There are no tokens, no inline data, and nothing is held.
func copyOperations() []operation {
	receive := func(action byte) []byte {
		return []byte{0x84, action, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0}
	}
	lid1, lid4 := receive(0x00), receive(0x05)
	lid1[2] = 0xFF
	copy(lid4[2:6], []byte{0xFF, 0xFF, 0xFF, 0xFF})
	failure := receive(0x04)
	failure[2] = 0xFF
	extended := func(action byte) []byte {
		return []byte{0x83, action, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0}
	}
	return []operation{
		{name: "EXTENDED COPY(LID1)", flags: opService, class: accessManage, usage: extended(0x00), decode: decodeExtendedCopy, run: runExtendedCopy},
		{name: "EXTENDED COPY(LID4)", flags: opService, class: accessManage, usage: extended(0x01), decode: decodeExtendedCopy, run: runExtendedCopy},
		{
			name: "COPY OPERATION ABORT", flags: opService, class: accessManage,
			usage: []byte{0x83, 0x1C, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			run:   runCopyAbort,
		},
		{name: "RECEIVE COPY STATUS(LID1)", flags: opService, class: accessRead, usage: lid1, decode: decodeAlloc32At10, run: runCopyStatusLID1},
		{name: "RECEIVE COPY OPERATING PARAMETERS", flags: opService, class: accessRead, usage: receive(0x03), decode: decodeAlloc32At10, run: runCopyParameters},
		{name: "RECEIVE COPY FAILURE DETAILS(LID1)", flags: opService, class: accessRead, usage: failure, decode: decodeAlloc32At10, run: runCopyFailure},
		{name: "RECEIVE COPY STATUS(LID4)", flags: opService, class: accessRead, usage: lid4, decode: decodeAlloc32At10, run: runCopyStatusLID4},
	}
}

// copyList is a parsed EXTENDED COPY parameter list. It aliases the data-out.
type copyList struct {
	list           uint32
	lid4           bool
	usage          byte
	cscds, segs    []byte
	cscdAt, segsAt int // where they begin in the parameter list
}

// cscd returns the descriptor that a segment's index names, nil if none.
func (l *copyList) cscd(index int) []byte {
	if at := index * cscdLen; at+cscdLen <= len(l.cscds) {
		return l.cscds[at : at+cscdLen]
	}
	return nil
}

// segment is a block device to block device segment descriptor, SPC-4 6.4.6.2.
type segment struct {
	src, dst       int // CSCD descriptor IDs
	inDestination  bool
	blocks         uint64
	srcLBA, dstLBA uint64
}

func parseSegment(b []byte) segment {
	return segment{
		inDestination: b[1]&0x02 != 0, // DC
		src:           int(binary.BigEndian.Uint16(b[4:])),
		dst:           int(binary.BigEndian.Uint16(b[6:])),
		blocks:        uint64(binary.BigEndian.Uint16(b[10:])),
		srcLBA:        binary.BigEndian.Uint64(b[12:]),
		dstLBA:        binary.BigEndian.Uint64(b[20:]),
	}
}

// decodeExtendedCopy bounds the parameter list before anybody makes room for it.
func decodeExtendedCopy(c *Command) bool {
	n := int(binary.BigEndian.Uint32(c.CDB[10:]))
	c.OutLen = n
	if n > copyHeaderLID4+maxDescriptorList {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return false
	}
	return true
}

// parseCopyList checks the parameter list as far as that is possible without
// looking at logical units. ok is false if the command has failed.
func (c *Command) parseCopyList() (l copyList, ok bool) {
	p := c.Out[:min(len(c.Out), c.OutLen)]
	l.lid4 = c.op.action() == 0x01
	var segs, inline, inlineAt int
	if l.lid4 {
		if len(p) < copyHeaderLID4 {
			c.Fail(IllegalRequest, ParameterListLengthError)
			return l, false
		}
		if !c.checkCopyHeaderLID4(p) {
			return l, false
		}
		l.list, l.cscdAt = binary.BigEndian.Uint32(p[20:]), copyHeaderLID4
		l.segsAt = l.cscdAt + int(binary.BigEndian.Uint16(p[42:]))
		segs = int(binary.BigEndian.Uint16(p[44:]))
		inline, inlineAt = int(binary.BigEndian.Uint16(p[46:])), 46
	} else {
		if len(p) < copyHeaderLID1 {
			c.Fail(IllegalRequest, ParameterListLengthError)
			return l, false
		}
		l.list, l.cscdAt = uint32(p[0]), copyHeaderLID1
		l.segsAt = l.cscdAt + int(binary.BigEndian.Uint16(p[2:]))
		segs = int(binary.BigEndian.Uint32(p[8:]))
		inline, inlineAt = int(binary.BigEndian.Uint32(p[12:])), 12
	}
	l.usage = p[1] >> 3 & 0x03
	switch {
	case l.usage == 1, l.usage == listNone && l.list != 0:
		return l, c.failField(inParameterList, 1, 4)
	case inline > 0:
		return l, c.failCopyList(InlineDataLengthExceeded, inlineAt)
	case l.segsAt-l.cscdAt+segs > maxDescriptorList, l.segsAt+segs > len(p):
		c.Fail(IllegalRequest, ParameterListLengthError)
		return l, false
	}
	l.cscds, l.segs = p[l.cscdAt:l.segsAt], p[l.segsAt:l.segsAt+segs]
	return l, c.checkCopyDescriptors(&l)
}

// checkCopyHeaderLID4 checks the constants of the long header, SPC-4 6.4.2.
func (c *Command) checkCopyHeaderLID4(p []byte) bool {
	immediate := p[15]&0x01 != 0
	switch {
	case p[0] != 0x01: // PARAMETER LIST FORMAT
		return c.failField(inParameterList, 0, -1)
	case binary.BigEndian.Uint16(p[2:]) != cscdLen: // HEADER CSCD DESCRIPTOR LIST LENGTH
		return c.failField(inParameterList, 2, -1)
	case p[16] != 0xFF: // HEADER CSCD DESCRIPTOR TYPE CODE
		return c.failField(inParameterList, 16, -1)
	case immediate && (p[15]&0x02 != 0 || p[1]>>3&0x03 == listNone):
		return c.failField(inParameterList, 15, 0)
	default:
		return true
	}
}

// checkCopyDescriptors checks numbers, types and lengths of the descriptors.
func (c *Command) checkCopyDescriptors(l *copyList) bool {
	if len(l.cscds) > maxCSCDs*cscdLen {
		return c.failCopyList(TooManyTargetDescriptors, l.cscdAt)
	}
	for i := 0; i < len(l.cscds); i += cscdLen {
		if l.cscds[i] != codeIdentification {
			return c.failCopyList(UnsupportedTargetDescriptor, l.cscdAt+i)
		}
		if i+cscdLen > len(l.cscds) {
			c.Fail(IllegalRequest, ParameterListLengthError)
			return false
		}
	}
	for i := 0; i < len(l.segs); i += segmentLen {
		switch {
		case i == maxSegments*segmentLen:
			return c.failCopyList(TooManySegmentDescriptors, l.segsAt+i)
		case l.segs[i] != codeBlockToBlock:
			return c.failCopyList(UnsupportedSegmentDescriptor, l.segsAt+i)
		case i+segmentLen > len(l.segs):
			c.Fail(IllegalRequest, ParameterListLengthError)
			return false
		case binary.BigEndian.Uint16(l.segs[i+2:]) != segmentLen-4: // DESCRIPTOR LENGTH
			return c.failField(inParameterList, l.segsAt+i+2, -1)
		}
	}
	return true
}

// failCopyList finishes the command with ILLEGAL REQUEST and points at a byte
// of the parameter list. It returns false.
func (c *Command) failCopyList(asc ASC, at int) bool {
	c.fail(&senseInfo{key: IllegalRequest, asc: asc, sksv: true, sks: fieldPointer(inParameterList, at, -1)})
	return false
}
