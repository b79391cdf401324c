package softiwarp

import (
	"bytes"
	"encoding/binary"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// Decoding and encoding an MPA frame is a fixed point, and no strict prefix
// is a frame.
func FuzzMPA(f *testing.F) {
	for _, c := range mpaFrames {
		f.Add(unhex(c.bytes), c.frame.reply)
	}
	f.Fuzz(func(t *testing.T, b []byte, reply bool) {
		frame, err := decodeMPA(b, reply)
		if err != nil {
			return
		}
		again, err := decodeMPA(frame.append(nil), reply)
		must(t, err)
		if !bytes.Equal(frame.append(nil), again.append(nil)) || frame.flags != again.flags || frame.rtr != again.rtr {
			t.Errorf("%+v, then %+v", frame, again)
		}
		for n := range b {
			if _, err := decodeMPA(b[:n], reply); err == nil {
				t.Errorf("a prefix of %d bytes decodes", n)
			}
		}
	})
}

// Decoding a DDP header, encoding and decoding it is a fixed point, but for
// reserved bits and versions.
func FuzzDDP(f *testing.F) {
	f.Add(unhex("41 43 00000000 00000000 00000007 00000009"))
	f.Add(unhex("81 40 11223344 0102030405060708"))
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) == 0 || len(b) < headerLen(b[0]) {
			return
		}
		var seg, again segment
		seg.decode(b)
		var h [untaggedLen]byte
		seg.encode(h[:])
		again.decode(h[:])
		seg.dv, seg.rv = ddpVersion, rdmapVersion
		if seg != again {
			t.Errorf("%+v, then %+v", seg, again)
		}
	})
}

func FuzzTerminate(f *testing.F) {
	f.Add([]byte{0x12, 2, 0xc0, 0})
	full := make([]byte, maxTerminateLen)
	full[2] = termM | termD | termR
	f.Add(full)
	f.Fuzz(func(t *testing.T, b []byte) {
		var term, again terminate
		if term.decode(b) != nil {
			return
		}
		if term.header == nil {
			return // what is encoded has all or nothing
		}
		h := make([]byte, maxTerminateLen)
		must(t, again.decode(h[:term.encode(h)]))
		if term.fault != again.fault || !bytes.Equal(term.header, again.header) || !bytes.Equal(term.read, again.read) {
			t.Errorf("%+v, then %+v", term, again)
		}
	})
}

// FuzzRDMAP gives a connection any stream of bytes: nothing outside its
// registered memory changes, and everything that was posted completes once.
// The stream comes in two parts, because parsers fail at borders.
func FuzzRDMAP(f *testing.F) {
	mapped, err := verbs.Map(1 << 17)
	must(f, err)
	region := mapped[-verbs.Addr(mapped)&0xffff:][:1<<16] // aligned, see symbolic
	const lo, hi = 4096, 8192
	e := newEnd(f, Config{})
	mr := e.register(region[lo:hi], verbs.AccessLocalWrite|verbs.AccessRemoteWrite|verbs.AccessRemoteRead)
	names := symbols(mr.RKey(), verbs.Addr(region))
	all := []byte{}
	for _, make := range goodSegments(mr) {
		b := names.name(make(&raw{}))
		f.Add(b, uint16(5), false)
		f.Add(b, uint16(30), true)
		all = append(all, b...)
	}
	f.Add(all, uint16(100), false)
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, crc bool) {
		b = names.resolve(b)
		if crc {
			repairCRC(b)
		}
		e.t = t
		defer func() { e.t = f }()
		clear(region)
		q, peer := fuzzQP(t, e, crc)
		defer func() { _ = unix.Close(peer) }()
		sge := []verbs.SGE{{Addr: verbs.Addr(region) + lo, Len: 100, LKey: mr.LKey()}}
		for id := range uint64(4) {
			_, err := q.PostRecv([]verbs.RecvWR{{ID: id, SG: sge}})
			must(t, err)
		}
		_, err := q.PostSend([]verbs.SendWR{{ID: 4, Op: verbs.OpRead, SG: sge}, {ID: 5, Op: verbs.OpSend, Flags: verbs.SendSignaled}})
		must(t, err)
		at := min(int(cut), len(b))
		for _, part := range [][]byte{b[:at], b[at:]} {
			_, _ = unix.Write(peer, part)
			e.poll()
		}
		_ = unix.Shutdown(peer, unix.SHUT_WR)
		e.poll()
		must(t, q.ToError())
		e.poll()
		q.destroy()
		var seen [6]int
		for _, wc := range e.take() {
			if wc.QPN == q.num {
				seen[wc.ID]++
			}
		}
		// The Read is not signaled, so its success is silent.
		if seen[4] == 0 {
			seen[4] = 1
		}
		if seen != [6]int{1, 1, 1, 1, 1, 1} {
			t.Errorf("completions: %v", seen)
		}
		for i, c := range region {
			if c != 0 && (i < lo || i >= hi) {
				t.Fatalf("byte %#x outside the region has changed", i)
			}
		}
	})
}

// fuzzQP is a connected queue pair of e, and the peer's socket.
func fuzzQP(t *testing.T, e *end, crc bool) (*QP, int) {
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_STREAM|unix.SOCK_NONBLOCK, 0)
	must(t, err)
	c := &Conn{cm: e.cm, dev: e.dev, state: connUp, fd: fds[0]}
	c.noEnd()
	q, err := newQP(c, verbs.QPConfig{SendCQ: e.cq, RecvCQ: e.cq, QPCap: testCap})
	must(t, err)
	c.qp = q
	must(t, q.start(fds[0], negotiated{crc: crc, ird: 2, ord: 2}))
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	return q, fds[1]
}

// names are stable names for what differs from run to run, so that inputs
// found by one run mean the same in the next.
type names [][2][]byte

func symbols(stag uint32, base uint64) names {
	return names{
		{[]byte("STAG"), binary.BigEndian.AppendUint32(nil, stag)},
		{[]byte("BASEOF"), binary.BigEndian.AppendUint64(nil, base)[:6]},
	}
}

func (n names) name(b []byte) []byte {
	for _, s := range n {
		b = bytes.ReplaceAll(b, s[1], s[0])
	}
	return b
}

func (n names) resolve(b []byte) []byte {
	b = bytes.Clone(b)
	for _, s := range n {
		b = bytes.ReplaceAll(b, s[0], s[1])
	}
	return b
}

// repairCRC makes the CRCs right: otherwise little gets behind that check.
func repairCRC(b []byte) {
	for len(b) > 2 {
		ulpdu := int(binary.BigEndian.Uint16(b))
		n := 2 + ulpdu + fpduPad(ulpdu)
		if len(b) < n+4 {
			return
		}
		putCRC(b[n:], updateCRC(0, b[:n]))
		b = b[n+4:]
	}
}
