// Package pdu encodes and decodes iSCSI Protocol Data Units, RFC 7143 §11,
// with the additions of RFC 7144.
//
// A PDU on the wire is a Basic Header Segment, optional Additional Header
// Segments, an optional header digest, an optional data segment padded to four
// bytes and an optional data digest (RFC 7143 §11.2). [BHS] is the fixed
// 48-byte part; each opcode has one struct with Encode and Decode methods that
// write and read a BHS. [AHS] walks the additional headers, [UpdateCRC32C] and
// its neighbours do the digests, [SNLess] compares sequence numbers.
//
// Encode writes all 48 bytes and leaves reserved bits zero. Decode ignores
// reserved bits, checks the opcode and assigns its receiver only on success.
// Neither allocates, so both may be used per I/O. The Decode methods of the data
// path assign field by field, which takes a third of the time of assigning a
// composite literal.
//
// The package is not for I/O: it reads no socket, starts no goroutine, writes
// no log and holds no state between calls. It has no opinion on whether a
// well-formed PDU is allowed at this point of a session; that is for the
// session layer. Key=value text is in pdu/text.
//
// Nothing here is synchronised: a value belongs to one goroutine at a time.
package pdu
