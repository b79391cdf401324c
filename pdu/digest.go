package pdu

import (
	"encoding/binary"
	"hash/crc32"
)

// DigestLen is the size of a header or data digest in bytes,
// RFC 7143 §11.2.3.
const DigestLen = 4

// castagnoli is the CRC32C table of RFC 7143 §13.1 (generator polynomial
// 0x11edc6f41). It is never written to.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

// UpdateCRC32C returns the CRC32C of everything that crc covers so far followed
// by p. It starts with 0 and may be fed segment by segment. It borrows p.
//
// A header digest covers the BHS and all AHS; a data digest covers the data
// segment and its padding bytes (RFC 7143 §11.2.3, §13.1).
func UpdateCRC32C(crc uint32, p []byte) uint32 { return crc32.Update(crc, castagnoli, p) }

// PutDigest writes crc to the first DigestLen bytes of dst in the byte order of
// the wire, least significant byte first (RFC 7143 appendix A.4). dst must have
// at least DigestLen bytes.
func PutDigest(dst []byte, crc uint32) { binary.LittleEndian.PutUint32(dst, crc) }

// CheckDigest reports whether the digest as received is that of crc. A digest
// shorter than DigestLen bytes never is. It borrows wire.
func CheckDigest(wire []byte, crc uint32) bool {
	return len(wire) >= DigestLen && binary.LittleEndian.Uint32(wire) == crc
}
