package pdu

import (
	"encoding/binary"
	"fmt"
)

// Additional Header Segment, RFC 7143 §11.2.2
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0| AHSLength                     | AHSType       | AHS-Specific  |
//	   4| AHS-Specific, then zero to three padding bytes                |
//
// AHSLength counts the AHS-Specific bytes without padding. For an extended CDB
// those are one reserved byte and the CDB bytes from the 17th on (§11.2.2.3);
// for the bidirectional read length one reserved byte and four bytes of length
// (§11.2.2.4).

const ahsHeaderLen = 3 // AHSLength and AHSType

const bidiReadLengthLen = 5 // AHSLength of that type, §11.2.2.4

const ahsTypeMask = 0x3f

// AHSType is the type of an Additional Header Segment, RFC 7143 §11.2.2.1.
type AHSType uint8

// AHS types, RFC 7143 §11.2.2.1. The two top bits of the byte are reserved.
const (
	AHSExtendedCDB    AHSType = 1 // Extended CDB
	AHSBidiReadLength AHSType = 2 // Bidirectional Expected Read Data Transfer Length
)

// String returns the name in RFC 7143, or the number of another value.
func (t AHSType) String() string {
	switch t {
	case AHSExtendedCDB:
		return "Extended CDB"
	case AHSBidiReadLength:
		return "Bidirectional Expected Read Data Transfer Length"
	}
	return fmt.Sprintf("AHSType(%d)", uint8(t))
}

// AHS is the Additional Header Segments of a PDU: TotalAHSLength bytes, one
// segment after the other, each padded to four bytes, RFC 7143 §11.2.2. Walk it
// with
//
//	for len(a) > 0 {
//		t, data, rest, err := a.Next()
//		...
//		a = rest
//	}
type AHS []byte

// Next returns the type and the AHS-Specific bytes of the first segment, without
// padding, and what follows it. data and rest are parts of a, not copies. The
// error is a *ProtocolError when a is empty, the length is zero or the segment
// runs over the end of a; t, data and rest are zero then.
func (a AHS) Next() (t AHSType, data []byte, rest AHS, err error) {
	if len(a) < 4 {
		return 0, nil, nil, protocolErrorf(RejectInvalidPDUField, "additional header segment of %d bytes", len(a))
	}
	n := int(binary.BigEndian.Uint16(a))
	if n == 0 {
		return 0, nil, nil, protocolErrorf(RejectInvalidPDUField, "AHSLength is zero")
	}
	end := ahsHeaderLen + n
	padded := end + Pad(end)
	if padded > len(a) {
		return 0, nil, nil, protocolErrorf(RejectInvalidPDUField, "AHSLength %d runs over the %d bytes left", n, len(a))
	}
	return AHSType(a[2] & ahsTypeMask), a[ahsHeaderLen:end:end], a[padded:], nil
}

// find returns the AHS-Specific bytes of the only segment of type t, or nil.
func (a AHS) find(want AHSType) ([]byte, error) {
	if len(a) > MaxTotalAHSLength {
		return nil, protocolErrorf(RejectInvalidPDUField, "%d bytes of additional header segments", len(a))
	}
	var found []byte
	for len(a) > 0 {
		t, data, rest, err := a.Next()
		if err != nil {
			return nil, err
		}
		if t == want && found != nil {
			return nil, protocolErrorf(RejectInvalidPDUField, "two additional header segments %s", t)
		}
		if t == want {
			found = data
		}
		a = rest
	}
	return found, nil
}

// ExtendedCDB appends the whole CDB of a SCSI Command to dst and returns the
// extended slice: cdb16, the 16 bytes of the header, and the bytes of the
// Extended CDB segment in ahs, if there is one. It borrows cdb16 and ahs. On
// error, a *ProtocolError for malformed segments or more than one of the type,
// it returns dst as it was.
func ExtendedCDB(dst, cdb16 []byte, ahs AHS) ([]byte, error) {
	ext, err := ahs.find(AHSExtendedCDB)
	if err != nil {
		return dst, err
	}
	dst = append(dst, cdb16...)
	if len(ext) == 0 {
		return dst, nil
	}
	return append(dst, ext[1:]...), nil // byte 0 is reserved
}

// BidiReadLength returns the Bidirectional Expected Read Data Transfer Length
// in bytes; ok is false when ahs has no such segment. The error is a
// *ProtocolError for malformed segments or more than one of the type.
func (a AHS) BidiReadLength() (n uint32, ok bool, err error) {
	data, err := a.find(AHSBidiReadLength)
	if err != nil || data == nil {
		return 0, false, err
	}
	if len(data) != bidiReadLengthLen {
		return 0, false, protocolErrorf(RejectInvalidPDUField, "AHSLength %d of %s", len(data), AHSBidiReadLength)
	}
	return binary.BigEndian.Uint32(data[1:]), true, nil
}

// AppendExtendedCDB appends the Extended CDB segment for a CDB that is longer
// than 16 bytes and returns the extended slice; a shorter CDB needs none and
// gets none. The first 16 bytes go to SCSICommand.CDB. The error says that the
// CDB doesn't fit MaxTotalAHSLength; dst is returned as it was then.
func AppendExtendedCDB(dst, cdb []byte) ([]byte, error) {
	if len(cdb) <= 16 {
		return dst, nil
	}
	n := 1 + len(cdb) - 16
	if ahsHeaderLen+n > MaxTotalAHSLength {
		return dst, fmt.Errorf("pdu: CDB of %d bytes is too long", len(cdb))
	}
	dst = append(dst, byte(n>>8), byte(n), byte(AHSExtendedCDB), 0)
	dst = append(dst, cdb[16:]...)
	return append(dst, make([]byte, Pad(ahsHeaderLen+n))...), nil
}

// AppendBidiReadLength appends the segment for a Bidirectional Expected Read
// Data Transfer Length of n bytes and returns the extended slice.
func AppendBidiReadLength(dst []byte, n uint32) []byte {
	dst = append(dst, 0, bidiReadLengthLen, byte(AHSBidiReadLength), 0)
	return binary.BigEndian.AppendUint32(dst, n)
}
