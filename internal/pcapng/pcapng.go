// Package pcapng makes and takes apart files of captured packets: the blocks of
// draft-ietf-opsawg-pcapng that a live capture needs, little-endian, with times
// in nanoseconds. It knows nothing of what is in the packets.
package pcapng

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"
)

// Block types, section 4 of the draft.
const (
	TypeSection    = 0x0A0D0D0A // Section Header Block, 4.1
	TypeInterface  = 1          // Interface Description Block, 4.2
	TypeStatistics = 5          // Interface Statistics Block, 4.6
	TypePacket     = 6          // Enhanced Packet Block, 4.3
)

// LinkRaw is the link type of packets that begin with an IPv4 or IPv6 header.
const LinkRaw = 101

const byteOrder = 0x1A2B3C4D

// Options of blocks, 3.5 and where the block is described.
const (
	optEnd     = 0
	optComment = 1

	sectionApplication = 4

	interfaceName        = 2
	interfaceDescription = 3
	interfaceResolution  = 9

	packetFlags = 2
	packetDrops = 4

	statisticsReceived = 4
	statisticsDropped  = 5
)

// begin appends the type of a block, and room for its length.
func begin(dst []byte, kind uint32) (out []byte, start int) {
	start = len(dst)
	dst = binary.LittleEndian.AppendUint32(dst, kind)
	return binary.LittleEndian.AppendUint32(dst, 0), start
}

// end fills in the length of the block that began at start.
func end(dst []byte, start int) []byte {
	n := uint32(len(dst) - start + 4)
	binary.LittleEndian.PutUint32(dst[start+4:], n)
	return binary.LittleEndian.AppendUint32(dst, n)
}

func pad(dst []byte, n int) []byte {
	for ; n%4 != 0; n++ {
		dst = append(dst, 0)
	}
	return dst
}

func option(dst []byte, code uint16, value []byte) []byte {
	if len(value) == 0 {
		return dst
	}
	value = value[:min(len(value), 1<<16-1)]
	dst = binary.LittleEndian.AppendUint16(dst, code)
	dst = binary.LittleEndian.AppendUint16(dst, uint16(len(value)))
	return pad(append(dst, value...), len(value))
}

func option64(dst []byte, code uint16, v uint64) []byte {
	return option(dst, code, binary.LittleEndian.AppendUint64(nil, v))
}

func endOptions(dst []byte) []byte { return append(dst, optEnd, 0, 0, 0) }

// stamp appends a time: the upper half first.
func stamp(dst []byte, at time.Time) []byte {
	ns := uint64(at.UnixNano())
	dst = binary.LittleEndian.AppendUint32(dst, uint32(ns>>32))
	return binary.LittleEndian.AppendUint32(dst, uint32(ns))
}

// AppendSection appends the block that begins a file.
func AppendSection(dst []byte, application, comment string) []byte {
	dst, start := begin(dst, TypeSection)
	dst = binary.LittleEndian.AppendUint32(dst, byteOrder)
	dst = append(dst, 1, 0, 0, 0) // version 1.0
	dst = binary.LittleEndian.AppendUint64(dst, 1<<64-1)
	dst = option(dst, sectionApplication, []byte(application))
	dst = option(dst, optComment, []byte(comment))
	return end(endOptions(dst), start)
}

// Interface is where packets were seen. Interfaces count from 0 in the order of
// their blocks.
type Interface struct {
	Name, Description string
	Link              uint16
	Snaplen           uint32 // bytes kept of a packet; 0: all
}

// AppendInterface appends the description of an interface.
func AppendInterface(dst []byte, i *Interface) []byte {
	dst, start := begin(dst, TypeInterface)
	dst = binary.LittleEndian.AppendUint16(dst, i.Link)
	dst = append(dst, 0, 0)
	dst = binary.LittleEndian.AppendUint32(dst, i.Snaplen)
	dst = option(dst, interfaceName, []byte(i.Name))
	dst = option(dst, interfaceDescription, []byte(i.Description))
	dst = option(dst, interfaceResolution, []byte{9})
	return end(endOptions(dst), start)
}

// Packet is one packet. Data is what was kept of it, Length how long it was.
type Packet struct {
	Interface uint32
	Time      time.Time
	Outbound  bool
	Length    int
	Drops     uint64 // packets lost since the one before
	Comment   string
	Data      [][]byte // borrowed; the pieces follow each other
}

// AppendPacket appends a packet.
func AppendPacket(dst []byte, p *Packet) []byte {
	n := 0
	for _, d := range p.Data {
		n += len(d)
	}
	dst, start := begin(dst, TypePacket)
	dst = binary.LittleEndian.AppendUint32(dst, p.Interface)
	dst = stamp(dst, p.Time)
	dst = binary.LittleEndian.AppendUint32(dst, uint32(n))
	dst = binary.LittleEndian.AppendUint32(dst, uint32(p.Length))
	for _, d := range p.Data {
		dst = append(dst, d...)
	}
	dst = pad(dst, n)
	dst = option(dst, optComment, []byte(p.Comment))
	direction := byte(1)
	if p.Outbound {
		direction = 2
	}
	dst = option(dst, packetFlags, []byte{direction, 0, 0, 0})
	if p.Drops > 0 {
		dst = option64(dst, packetDrops, p.Drops)
	}
	return end(endOptions(dst), start)
}

// Statistics are counts of an interface since the capture began.
type Statistics struct {
	Interface         uint32
	Time              time.Time
	Received, Dropped uint64
}

// AppendStatistics appends counts. A file may have them more than once; the last
// ones count.
func AppendStatistics(dst []byte, s *Statistics) []byte {
	dst, start := begin(dst, TypeStatistics)
	dst = binary.LittleEndian.AppendUint32(dst, s.Interface)
	dst = stamp(dst, s.Time)
	dst = option64(dst, statisticsReceived, s.Received)
	dst = option64(dst, statisticsDropped, s.Dropped)
	return end(endOptions(dst), start)
}

// maxBlock bounds a block that is read, in bytes.
const maxBlock = 64 << 20

// ErrBlock is wrapped by errors about what is not a block of this package.
var ErrBlock = errors.New("pcapng: not a block")

// ReadBlock reads one whole block into buf, which it extends as needed, and
// returns it. The error is io.EOF between blocks and io.ErrUnexpectedEOF within.
func ReadBlock(r io.Reader, buf []byte) (kind uint32, block []byte, err error) {
	block = append(buf[:0], make([]byte, 8)...)
	if _, err := io.ReadFull(r, block); err != nil {
		return 0, nil, err
	}
	kind = binary.LittleEndian.Uint32(block)
	n := int(binary.LittleEndian.Uint32(block[4:]))
	if n < 12 || n%4 != 0 || n > maxBlock {
		return 0, nil, fmt.Errorf("%w: %d bytes of type %#x", ErrBlock, n, kind)
	}
	block = append(block, make([]byte, n-8)...)
	if _, err := io.ReadFull(r, block[8:]); err != nil {
		if errors.Is(err, io.EOF) {
			err = io.ErrUnexpectedEOF
		}
		return 0, nil, err
	}
	if int(binary.LittleEndian.Uint32(block[n-4:])) != n {
		return 0, nil, fmt.Errorf("%w: its two lengths differ", ErrBlock)
	}
	return kind, block, nil
}

// ParseStatistics takes a block of TypeStatistics apart, as far as it is ours.
func ParseStatistics(block []byte) (s Statistics, ok bool) {
	if len(block) < 24 || binary.LittleEndian.Uint32(block) != TypeStatistics {
		return s, false
	}
	s.Interface = binary.LittleEndian.Uint32(block[8:])
	ns := uint64(binary.LittleEndian.Uint32(block[12:]))<<32 | uint64(binary.LittleEndian.Uint32(block[16:]))
	s.Time = time.Unix(0, int64(ns))
	for opts := block[20 : len(block)-4]; len(opts) >= 4; {
		code, n := binary.LittleEndian.Uint16(opts), int(binary.LittleEndian.Uint16(opts[2:]))
		opts = opts[4:]
		if code == optEnd {
			break
		}
		if n > len(opts) {
			return s, false
		}
		if n == 8 && code == statisticsReceived {
			s.Received = binary.LittleEndian.Uint64(opts)
		}
		if n == 8 && code == statisticsDropped {
			s.Dropped = binary.LittleEndian.Uint64(opts)
		}
		opts = opts[min(len(opts), (n+3)&^3):]
	}
	return s, true
}
