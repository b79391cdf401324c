package scsi

import (
	"encoding/binary"
)

// Peripheral device types and qualifiers, SPC-5 6.7.2.
const (
	typeDisk      = 0x00 // direct access block device
	typeWellKnown = 0x1E // well known logical unit
	typeNone      = 0x7F // qualifier 011b, type 1Fh: no device can be here
)

// inquiryVersion claims SPC-4, SPC-5 table 151. What is said and done conforms
// to SPC-5 as well, which the version descriptors tell; but initiators of the
// time of SPC-4 take a higher value for one they do not know.
const inquiryVersion = 0x06

// versionDescriptors are the standards that are claimed, none with a
// particular revision: SAM-5, SPC-4, SBC-3, iSCSI, and the successors SPC-5 and
// SBC-4; SPC-5 table 156.
var versionDescriptors = [...]uint16{0x00A0, 0x0460, 0x04C0, 0x0960, 0x05C0, 0x0600}

// standardInquiryLen is the length of standard INQUIRY data.
const standardInquiryLen = 96

func decodeInquiry(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint16(c.CDB[3:])))
	evpd, page := c.CDB[1]&0x01, c.CDB[2]
	switch {
	case c.CDB[1]&0x02 != 0: // CMDDT, obsolete
		return c.failField(inCDB, 1, 1)
	case evpd == 0 && page != 0:
		// SPC-5 6.7.1: PAGE CODE without EVPD.
		return c.failField(inCDB, 2, -1)
	case evpd != 0 && c.unit != nil && c.unit.vpdPage(page) == nil:
		return c.failField(inCDB, 2, -1)
	default:
		return true
	}
}

func runInquiry(c *Command, _ mode) bool {
	if c.CDB[1]&0x01 != 0 {
		c.reply(c.unit.appendVPD(c.build(), c.CDB[2], c.Nexus))
		return true
	}
	b := appendStandardInquiry(c.build(), typeDisk, &c.unit.cfg)
	b[5] |= c.Nexus.port.tpgs()
	c.reply(b)
	return true
}

// appendStandardInquiry appends standard INQUIRY data, SPC-5 6.7.2.
func appendStandardInquiry(b []byte, peripheral byte, cfg *Config) []byte {
	start := len(b)
	var removable byte
	if cfg.Removable {
		removable = 0x80
	}
	var copying byte
	if peripheral == typeDisk {
		copying = 0x08 // 3PC: EXTENDED COPY
	}
	b = append(b, peripheral, removable, inquiryVersion,
		0x12,                 // HISUP, RESPONSE DATA FORMAT 2
		standardInquiryLen-5, // ADDITIONAL LENGTH
		copying, 0,
		0x02) // CMDQUE
	b = appendPadded(b, cfg.Vendor, 8)
	b = appendPadded(b, cfg.Product, 16)
	b = appendPadded(b, cfg.Revision, 4)
	b = zeros(b, 58-36)
	for _, v := range versionDescriptors {
		b = binary.BigEndian.AppendUint16(b, v)
	}
	return zeros(b, standardInquiryLen-(len(b)-start))
}

// appendPadded appends left-aligned ASCII, filled up with spaces, SPC-5 4.3.1.
func appendPadded(b []byte, s string, n int) []byte {
	b = append(b, s[:min(len(s), n)]...)
	for range n - len(s) {
		b = append(b, ' ')
	}
	return b
}
