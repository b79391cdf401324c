package softiwarp

import (
	"encoding/binary"
	"errors"
	"hash/crc32"
)

// MPA request and reply frames, RFC 5044 section 7.1 and RFC 6581 section 6:
//
//	 0                   1                   2                   3
//	 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1 2 3 4 5 6 7 8 9 0 1
//	+---------------------------------------------------------------+
//	|        Key: "MPA ID Req Frame" or "MPA ID Rep Frame"          |
//	+                          (16 bytes)                           +
//	+-+-+-+-+-------+---------------+-------------------------------+
//	|M|C|R|S|  Res  |     Rev       |          PD_Length            |
//	+-+-+-+-+-------+---------------+-------------------------------+
//	|A|B|          IRD              |C|D|         ORD               |  when S
//	+-+-+---------------------------+-+-+---------------------------+
//	|                        Private Data                           |
//	+---------------------------------------------------------------+
const (
	mpaKeyLen     = 16
	mpaHeaderLen  = 20
	mpaEnhanced   = 4   // bytes of IRD and ORD at the front of the private data
	mpaMaxPD      = 512 // RFC 5044 section 7.1
	mpaMaxPrivate = 252 // of ours: peers with Linux' limit of 256, less the 4 above

	mpaRequestKey = "MPA ID Req Frame"
	mpaReplyKey   = "MPA ID Rep Frame"

	mpaDepthMask = 0x3fff // of IRD and ORD
	mpaDepthAny  = 0x3fff // "automatic", RFC 6581 section 6
)

// mpaFlags are the flags of an MPA frame, RFC 5044 section 7.1.
type mpaFlags uint8

const (
	mpaMarkers mpaFlags = 0x80 // M: the sender wants to receive markers
	mpaCRC     mpaFlags = 0x40 // C: CRC wanted; used when either side wants it
	mpaReject  mpaFlags = 0x20 // R: refused; in replies
	mpaIsEnh   mpaFlags = 0x10 // S: IRD and ORD present, RFC 6581
)

// rtr is how the active side says that it is ready to receive, in the
// peer-to-peer model of RFC 6581 section 6. The values are the sums of the
// flags B, C and D as they are kept here, not as they are on the wire.
type rtr uint8

const (
	rtrFPDU  rtr = 1 << iota // B: zero-length FPDU
	rtrWrite                 // C: zero-length RDMA Write
	rtrRead                  // D: zero-length RDMA Read
)

// mpaFrame is a request or reply frame.
type mpaFrame struct {
	reply      bool
	flags      mpaFlags
	rev        uint8
	peerToPeer bool // A
	rtr        rtr
	ird, ord   uint16
	private    []byte
}

var (
	errMPAKey     = errors.New("softiwarp: not an MPA frame")
	errMPALength  = errors.New("softiwarp: length in an MPA frame is out of range")
	errMPAShort   = errors.New("softiwarp: MPA frame is cut off")
	errMPAMarkers = errors.New("softiwarp: peer demands MPA markers")
	errMPARev     = errors.New("softiwarp: MPA revision of the peer is not supported")
)

// append adds the frame's bytes to dst.
func (f *mpaFrame) append(dst []byte) []byte {
	key := mpaRequestKey
	if f.reply {
		key = mpaReplyKey
	}
	dst = append(dst, key...)
	length := len(f.private)
	if f.flags&mpaIsEnh != 0 {
		length += mpaEnhanced
	}
	dst = append(dst, byte(f.flags), f.rev)
	dst = binary.BigEndian.AppendUint16(dst, uint16(length))
	if f.flags&mpaIsEnh != 0 {
		ird, ord := f.ird&mpaDepthMask, f.ord&mpaDepthMask
		ird |= bit(f.peerToPeer, 0x8000) | bit(f.rtr&rtrFPDU != 0, 0x4000)
		ord |= bit(f.rtr&rtrWrite != 0, 0x8000) | bit(f.rtr&rtrRead != 0, 0x4000)
		dst = binary.BigEndian.AppendUint16(dst, ird)
		dst = binary.BigEndian.AppendUint16(dst, ord)
	}
	return append(dst, f.private...)
}

func bit(on bool, b uint16) uint16 {
	if on {
		return b
	}
	return 0
}

// mpaFrameLen returns the length of the frame that starts with b, which is at
// least mpaHeaderLen long.
func mpaFrameLen(b []byte, reply bool) (int, error) {
	key := mpaRequestKey
	if reply {
		key = mpaReplyKey
	}
	if string(b[:mpaKeyLen]) != key {
		return 0, errMPAKey
	}
	n := int(binary.BigEndian.Uint16(b[18:]))
	if n > mpaMaxPD {
		return 0, errMPALength
	}
	return mpaHeaderLen + n, nil
}

// decodeMPA decodes the one frame that b is. The private data is b's.
func decodeMPA(b []byte, reply bool) (mpaFrame, error) {
	if len(b) < mpaHeaderLen {
		return mpaFrame{}, errMPAShort
	}
	n, err := mpaFrameLen(b, reply)
	if err != nil {
		return mpaFrame{}, err
	}
	if len(b) != n {
		return mpaFrame{}, errMPAShort
	}
	f := mpaFrame{reply: reply, flags: mpaFlags(b[16]), rev: b[17], private: b[mpaHeaderLen:]}
	f.flags &= mpaMarkers | mpaCRC | mpaReject | mpaIsEnh
	// Before revision 2 the bit was reserved, and is ignored.
	if f.rev < 2 {
		f.flags &^= mpaIsEnh
	}
	if f.flags&mpaIsEnh == 0 {
		return f, nil
	}
	if len(f.private) < mpaEnhanced {
		return mpaFrame{}, errMPALength
	}
	ird := binary.BigEndian.Uint16(f.private)
	ord := binary.BigEndian.Uint16(f.private[2:])
	f.private = f.private[mpaEnhanced:]
	f.ird, f.ord = ird&mpaDepthMask, ord&mpaDepthMask
	f.peerToPeer = ird&0x8000 != 0
	if ird&0x4000 != 0 {
		f.rtr |= rtrFPDU
	}
	if ord&0x8000 != 0 {
		f.rtr |= rtrWrite
	}
	if ord&0x4000 != 0 {
		f.rtr |= rtrRead
	}
	return f, nil
}

// FPDU, RFC 5044 section 4.1: ULPDU length, ULPDU, padding to a multiple of
// four, CRC. The CRC field is there when CRCs are not in use, too.
const (
	fpduLenLen   = 2
	fpduCRCLen   = 4
	maxULPDU     = 1<<16 - 1
	minULPDU     = 128 // of ours, when a path is reported narrower than any is
	defaultULPDU = 1460 - fpduLenLen - fpduCRCLen
)

// fpduPad is the padding after a ULPDU of n bytes.
func fpduPad(n int) int { return -(fpduLenLen + n) & 3 }

// ulpduFor is the longest ULPDU that fills one TCP segment of mss bytes,
// RFC 5044 section 4.5, without markers.
func ulpduFor(mss int) int {
	if mss <= 0 {
		return defaultULPDU
	}
	return min(max(mss-fpduLenLen-fpduCRCLen-mss%4, minULPDU), maxULPDU)
}

// CRC32C as in iSCSI, RFC 5044 section 4.4: least significant byte first.
var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func updateCRC(crc uint32, b []byte) uint32 { return crc32.Update(crc, castagnoli, b) }

func putCRC(b []byte, crc uint32) { binary.LittleEndian.PutUint32(b, crc) }

func getCRC(b []byte) uint32 { return binary.LittleEndian.Uint32(b) }
