package capture

import (
	"encoding/binary"
	"net/netip"

	"github.com/iserd/iserd/internal/pcapng"
)

const (
	// maxSegment is how much of a PDU one packet takes: IP packets have at most
	// 65535 bytes.
	maxSegment = 60 << 10
	// maxHeaders is the length of the headers of the longest packet: IPv6, TCP
	// and its options.
	maxHeaders = 40 + 20 + 8

	protoTCP = 6
)

// Flags of a TCP header, RFC 9293 3.1.
const (
	tcpFIN = 0x01
	tcpSYN = 0x02
	tcpPSH = 0x08
	tcpACK = 0x10
)

// link is the two ends of a connection, which do not change.
type link struct {
	initiator, target netip.AddrPort
	iface             uint32
}

// packets appends a record: a packet, or several for a long PDU.
func (c *Capture) packets(dst []byte, r *record) []byte {
	c.waiting.Add(-int64(len(r.data)))
	kept, left := r.data, r.length
	p := pcapng.Packet{Interface: r.link.iface, Time: r.at, Outbound: r.out, Drops: r.drops}
	for seq := r.seq; ; {
		n := min(left, maxSegment)
		part := kept[:min(len(kept), n)]
		flags := r.flags
		if left > n {
			flags &^= tcpPSH
		}
		var mem [maxHeaders]byte
		h := r.link.headers(mem[:0], r.out, flags, seq, r.ack, part, n)
		p.Length, p.Data = len(h)+n, [][]byte{h, part}
		if left == n {
			p.Comment = r.comment // with the last, which is where tools show a PDU
		}
		dst = pcapng.AppendPacket(dst, &p)
		kept, left, seq = kept[len(part):], left-n, seq+uint32(n)
		if left == 0 {
			return dst
		}
		p.Drops = 0
	}
}

// headers appends IP and TCP headers for n bytes of payload, of which part is at
// hand. The checksum of TCP is left out when part is not all.
func (l *link) headers(dst []byte, out bool, flags uint8, seq, ack uint32, part []byte, n int) []byte {
	from, to := l.initiator, l.target
	if out {
		from, to = to, from
	}
	var options []byte
	if flags&tcpSYN != 0 {
		// The longest segments, and a window scale: nothing here ever fills a window.
		options = []byte{2, 4, 0xFF, 0xFF, 3, 3, 14, 0}
	}
	tcp := 20 + len(options)
	var sum uint32
	if from.Addr().Is4() {
		dst = ipv4(dst, from.Addr().As4(), to.Addr().As4(), tcp+n)
		sum = add(0, dst[12:20])
	} else {
		dst = ipv6(dst, from.Addr().As16(), to.Addr().As16(), tcp+n)
		sum = add(0, dst[8:40])
	}
	start := len(dst)
	dst = binary.BigEndian.AppendUint16(dst, from.Port())
	dst = binary.BigEndian.AppendUint16(dst, to.Port())
	dst = binary.BigEndian.AppendUint32(dst, seq)
	dst = binary.BigEndian.AppendUint32(dst, ack)
	dst = append(dst, byte(tcp/4)<<4, flags, 0xFF, 0xFF, 0, 0, 0, 0)
	dst = append(dst, options...)
	if len(part) == n {
		sum = add(sum+protoTCP+uint32(tcp+n), dst[start:])
		binary.BigEndian.PutUint16(dst[start+16:], fold(add(sum, part)))
	}
	return dst
}

// ipv4 appends a header without options, RFC 791 3.1.
func ipv4(dst []byte, from, to [4]byte, payload int) []byte {
	start := len(dst)
	dst = append(dst, 0x45, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(20+payload))
	dst = append(dst, 0, 0, 0x40, 0, 64, protoTCP, 0, 0) // don't fragment, 64 hops
	dst = append(append(dst, from[:]...), to[:]...)
	binary.BigEndian.PutUint16(dst[start+10:], fold(add(0, dst[start:])))
	return dst
}

// ipv6 appends a header, RFC 8200 3.
func ipv6(dst []byte, from, to [16]byte, payload int) []byte {
	dst = append(dst, 0x60, 0, 0, 0)
	dst = binary.BigEndian.AppendUint16(dst, uint16(payload))
	dst = append(dst, protoTCP, 64)
	return append(append(dst, from[:]...), to[:]...)
}

// add adds b to an Internet checksum, RFC 1071. Only the last b may have an odd
// length.
func add(sum uint32, b []byte) uint32 {
	for ; len(b) > 1; b = b[2:] {
		sum += uint32(binary.BigEndian.Uint16(b))
	}
	if len(b) == 1 {
		sum += uint32(b[0]) << 8
	}
	return sum
}

// fold ends a checksum. 60 KiB of words do not overflow it before.
func fold(sum uint32) uint16 {
	for sum > 0xFFFF {
		sum = sum>>16 + sum&0xFFFF
	}
	return ^uint16(sum)
}
