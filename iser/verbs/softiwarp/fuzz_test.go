package softiwarp

import (
	"bytes"
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
	region, err := verbs.Map(1 << 16)
	must(f, err)
	const lo, hi = 4096, 8192
	e := newEnd(f, Config{})
	mr := e.register(region[lo:hi], verbs.AccessLocalWrite|verbs.AccessRemoteWrite|verbs.AccessRemoteRead)
	r := &raw{}
	all := []byte{}
	for _, make := range goodSegments(mr) {
		f.Add(make(r), uint16(5), false)
		all = append(all, make(r)...)
	}
	f.Add(all, uint16(100), false)
	r.crc = true
	for _, make := range goodSegments(mr) {
		f.Add(make(r), uint16(30), true)
	}
	f.Fuzz(func(t *testing.T, b []byte, cut uint16, crc bool) {
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
	must(t, q.start(fds[0], negotiated{crc: crc, ird: 2, ord: 2, ulpdu: 1454}))
	t.Cleanup(func() { _ = unix.Close(fds[0]) })
	return q, fds[1]
}
