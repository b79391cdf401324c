package scsi

import (
	"encoding/binary"
	"fmt"
	"math"
)

// vpdPage is one vital product data page: its code and a function that
// appends what follows the PAGE LENGTH field.
type vpdPage struct {
	code   byte
	needs  caps
	append func(u *Unit, b []byte, n *Nexus) []byte
}

// vpdPages are the pages in ascending order. The first lists them.
var vpdPages = [...]vpdPage{
	{code: 0x00, append: nil}, // Supported VPD Pages, made from this table
	{code: 0x80, append: (*Unit).appendVPD80},
	{code: 0x83, append: (*Unit).appendVPD83},
	{code: 0x86, append: (*Unit).appendVPD86},
	{code: 0x8F, append: (*Unit).appendVPD8F},
	{code: 0xB0, append: (*Unit).appendVPDB0},
	{code: 0xB1, append: (*Unit).appendVPDB1},
	{code: 0xB2, needs: capUnmap, append: (*Unit).appendVPDB2},
}

// vpdPage returns the page, nil if the unit does not have it.
func (u *Unit) vpdPage(code byte) *vpdPage {
	for i := range vpdPages {
		if p := &vpdPages[i]; p.code == code && p.needs&^u.caps == 0 {
			return p
		}
	}
	return nil
}

// appendVPD appends a page that the unit has.
func (u *Unit) appendVPD(b []byte, code byte, n *Nexus) []byte {
	start := len(b)
	b = append(b, typeDisk, code, 0, 0)
	if p := u.vpdPage(code); p.append != nil {
		b = p.append(u, b, n)
	} else {
		for i := range vpdPages {
			if vpdPages[i].needs&^u.caps == 0 {
				b = append(b, vpdPages[i].code)
			}
		}
	}
	binary.BigEndian.PutUint16(b[start+2:], uint16(len(b)-start-4))
	return b
}

// appendVPD80 is Unit Serial Number, SPC-5 7.7.19.
func (u *Unit) appendVPD80(b []byte, _ *Nexus) []byte {
	return append(b, u.cfg.Serial...)
}

// Fields of a designation descriptor, SPC-5 7.7.6.1.
const (
	codeBinary = 0x1
	codeASCII  = 0x2
	codeUTF8   = 0x3

	assocUnit   = 0x00
	assocPort   = 0x10
	assocDevice = 0x20

	designatorT10       = 0x1
	designatorNAA       = 0x3
	designatorRelPort   = 0x4
	designatorPortGroup = 0x5
	designatorSCSIName  = 0x8

	protocolISCSI = 0x50 // PROTOCOL IDENTIFIER 5h
	piv           = 0x80 // PROTOCOL IDENTIFIER is valid
)

// appendVPD83 is Device Identification, SPC-5 7.7.6: the logical unit by NAA
// and T10 vendor ID, the target port by relative identifier, group and name,
// and the target device by name (RFC 7143 4.4.1).
func (u *Unit) appendVPD83(b []byte, n *Nexus) []byte {
	if u.cfg.NAA != 0 {
		b = append(b, codeBinary, assocUnit|designatorNAA, 0, 8)
		b = binary.BigEndian.AppendUint64(b, u.cfg.NAA)
	}
	b = append(b, codeASCII, assocUnit|designatorT10, 0, byte(8+16+len(u.cfg.Serial)))
	b = u.appendT10(b)
	itn := n.itn
	if itn == nil {
		return b
	}
	if itn.RelativePort != 0 {
		b = append(b, protocolISCSI|codeBinary, piv|assocPort|designatorRelPort, 0, 4, 0, 0)
		b = binary.BigEndian.AppendUint16(b, itn.RelativePort)
	}
	if group := n.port.targetPortGroup(itn); group != 0 {
		b = append(b, protocolISCSI|codeBinary, piv|assocPort|designatorPortGroup, 0, 4, 0, 0)
		b = binary.BigEndian.AppendUint16(b, group)
	}
	if itn.TargetName == "" {
		return b
	}
	b = appendSCSIName(b, assocPort, fmt.Sprintf("%s,t,0x%04x", itn.TargetName, itn.PortalGroupTag))
	return appendSCSIName(b, assocDevice, itn.TargetName)
}

// appendT10 appends the T10 vendor ID based designator, SPC-5 7.7.6.4.
func (u *Unit) appendT10(b []byte) []byte {
	b = appendPadded(b, u.cfg.Vendor, 8)
	b = appendPadded(b, u.cfg.Product, 16)
	return append(b, u.cfg.Serial...)
}

// appendSCSIName appends a SCSI name string designator: UTF-8, terminated and
// filled up to a multiple of four with NULs, SPC-5 7.7.6.11.
func appendSCSIName(b []byte, assoc byte, name string) []byte {
	n := (len(name) + 4) &^ 3
	if n > math.MaxUint8 {
		return b // iSCSI names have up to 223 bytes, so this one is not one
	}
	b = append(b, protocolISCSI|codeUTF8, piv|assoc|designatorSCSIName, 0, byte(n))
	b = append(b, name...)
	return zeros(b, n-len(name))
}

// appendVPD86 is Extended INQUIRY Data, SPC-5 7.7.7.
func (u *Unit) appendVPD86(b []byte, _ *Nexus) []byte {
	start := len(b)
	var volatile byte
	if u.volatile {
		volatile = 0x01 // V_SUP
	}
	b = append(b, 0x00, // no protection information
		0x07, // HEADSUP, ORDSUP, SIMPSUP
		volatile)
	return zeros(b, 60-(len(b)-start))
}

// appendVPDB0 is Block Limits, SBC-4 6.6.4.
func (u *Unit) appendVPDB0(b []byte, _ *Nexus) []byte {
	start := len(b)
	b = append(b, 0x01, // WSNZ
		byte(u.maxCompare()))
	granularity := max(1, min(1<<u.physExp, math.MaxUint16))
	b = binary.BigEndian.AppendUint16(b, uint16(granularity))
	b = binary.BigEndian.AppendUint32(b, uint32(u.maxBlocks))
	optimal := min(uint64(u.info.OptimalIOSize)>>u.blockShift, u.maxBlocks)
	b = binary.BigEndian.AppendUint32(b, uint32(optimal))
	b = binary.BigEndian.AppendUint32(b, 0) // MAXIMUM PREFETCH LENGTH: no limit
	b = u.appendUnmapLimits(b)
	b = binary.BigEndian.AppendUint64(b, u.maxWriteSame())
	b = binary.BigEndian.AppendUint32(b, uint32(u.atomicBlocks))
	return zeros(b, 60-(len(b)-start)) // no atomic alignment, granularity, boundary
}

func (u *Unit) appendUnmapLimits(b []byte) []byte {
	if u.unmap == nil {
		return zeros(b, 16)
	}
	b = binary.BigEndian.AppendUint32(b, uint32(u.maxUnmap()))
	b = binary.BigEndian.AppendUint32(b, maxUnmapDescs)
	b = binary.BigEndian.AppendUint32(b, uint32(uint64(u.info.UnmapGranularity)>>u.blockShift))
	return binary.BigEndian.AppendUint32(b, 1<<31) // UGAVALID, alignment 0
}

func (u *Unit) maxCompare() uint64   { return min(maxCompareBlocks, u.maxBlocks) }
func (u *Unit) maxUnmap() uint64     { return maxUnmapBlocks }
func (u *Unit) maxWriteSame() uint64 { return maxWriteSameBlocks }

// appendVPDB1 is Block Device Characteristics, SBC-4 6.6.2.
func (u *Unit) appendVPDB1(b []byte, _ *Nexus) []byte {
	start := len(b)
	rate := uint16(1) // non-rotating medium
	if u.info.Rotational {
		rate = 0 // not reported
	}
	b = binary.BigEndian.AppendUint16(b, rate)
	b = append(b, 0)
	if u.unmap != nil {
		b = append(b, 0x40) // WABEREQ 01b: after a BLOCK ERASE blocks can be read
	}
	return zeros(b, 60-(len(b)-start))
}

// appendVPDB2 is Logical Block Provisioning, SBC-4 6.6.6.
func (u *Unit) appendVPDB2(b []byte, _ *Nexus) []byte {
	how := byte(0x80 | 0x40 | 0x20) // LBPU, LBPWS, LBPWS10
	if u.info.UnmapZeroes {
		how |= 0x04 // LBPRZ 001b
	}
	return append(b, u.thresholdExponent(), how, 0x02, 0) // PROVISIONING TYPE: thin
}
