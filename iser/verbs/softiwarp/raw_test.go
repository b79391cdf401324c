package softiwarp

import (
	"bytes"
	"encoding/binary"
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// raw is a peer that sends any bytes it likes.
type raw struct {
	t    testing.TB
	c    *net.TCPConn
	crc  bool
	msn  uint32
	read []byte // what was read and not used
}

func dialRaw(t testing.TB, l verbs.Listener) *raw {
	t.Helper()
	c, err := net.Dial("tcp", l.Addr().String())
	must(t, err)
	r := &raw{t: t, c: c.(*net.TCPConn), msn: 1}
	t.Cleanup(func() { _ = c.Close() })
	must(t, c.SetDeadline(time.Now().Add(limit)))
	return r
}

func (r *raw) write(b []byte) {
	r.t.Helper()
	_, err := r.c.Write(b)
	must(r.t, err)
}

func (r *raw) need(n int) []byte {
	r.t.Helper()
	b := make([]byte, n)
	_, err := io.ReadFull(r.c, b)
	must(r.t, err)
	return b
}

// reply reads an MPA reply.
func (r *raw) reply() mpaFrame {
	r.t.Helper()
	b := r.need(mpaHeaderLen)
	n, err := mpaFrameLen(b, true)
	must(r.t, err)
	f, err := decodeMPA(append(b, r.need(n-mpaHeaderLen)...), true)
	must(r.t, err)
	return f
}

var rawRequest = mpaFrame{rev: 2, flags: mpaIsEnh, ird: 4, ord: 4, private: []byte("hello")}

// fpdu makes an FPDU.
func (r *raw) fpdu(seg segment, payload []byte) []byte {
	if seg.dv == 0 {
		seg.dv = ddpVersion
	}
	var h [untaggedLen]byte
	n := seg.encode(h[:])
	h[0] = h[0]&^3 | seg.dv&3
	b := binary.BigEndian.AppendUint16(nil, uint16(n+len(payload)))
	b = append(append(b, h[:n]...), payload...)
	b = append(b, make([]byte, fpduPad(n+len(payload)))...)
	var crc [4]byte
	if r.crc {
		putCRC(crc[:], updateCRC(0, b))
	}
	return append(b, crc[:]...)
}

// next reads an FPDU, polling e meanwhile; io.EOF at the end.
func (r *raw) next(e *end) (seg segment, payload []byte, err error) {
	for {
		if len(r.read) > 2 {
			ulpdu := int(binary.BigEndian.Uint16(r.read))
			whole := 2 + ulpdu + fpduPad(ulpdu) + 4
			if len(r.read) >= whole {
				b := r.read[2 : 2+ulpdu]
				if r.crc && updateCRC(0, r.read[:whole-4]) != getCRC(r.read[whole-4:]) {
					return seg, nil, errors.New("CRC of an FPDU is wrong")
				}
				r.read = r.read[whole:]
				if ulpdu == 0 {
					continue
				}
				seg.decode(b)
				return seg, b[headerLen(b[0]):], nil
			}
		}
		if e != nil {
			e.poll()
		}
		b := make([]byte, 64<<10)
		must(r.t, r.c.SetReadDeadline(time.Now().Add(5*time.Millisecond)))
		n, err := r.c.Read(b)
		r.read = append(r.read, b[:n]...)
		if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
			if len(r.read) > 0 && errors.Is(err, io.EOF) {
				err = io.ErrUnexpectedEOF
			}
			return seg, nil, err
		}
	}
}

// terminate reads up to a Terminate.
func (r *raw) terminate(e *end) terminate {
	r.t.Helper()
	for start := time.Now(); time.Since(start) < limit; {
		seg, payload, err := r.next(e)
		if err != nil {
			r.t.Fatalf("no Terminate: %v", err)
		}
		if seg.op != opTerminate {
			continue
		}
		var term terminate
		must(r.t, term.decode(payload))
		return term
	}
	r.t.Fatal("no Terminate")
	return terminate{}
}

// victim is an end that serves a listener, with another connection that must
// live on whatever happens to the ones under test.
type victim struct {
	*end
	l        verbs.Listener
	witness  *end // active side
	witnessQ *QP  // passive side
}

func newVictim(t *testing.T, cfg Config) *victim {
	t.Helper()
	v := &victim{end: newEnd(t, cfg), witness: newEnd(t, cfg)}
	connect(t, v.witness, v.end)
	v.witnessQ = v.qp
	witness := v.conn
	t.Cleanup(func() { must(t, witness.Close()) })
	v.conn, v.qp = nil, nil
	var err error
	v.l, err = v.cm.Listen(loopback, 0)
	must(t, err)
	t.Cleanup(func() { must(t, v.l.Close()) })
	return v
}

// connect connects a raw peer. Two receives of 64 bytes are posted at 4096.
func (v *victim) connect() *raw {
	v.t.Helper()
	r := dialRaw(v.t, v.l)
	f := rawRequest
	if r.crc = v.dev.cfg.CRC; r.crc {
		f.flags |= mpaCRC
	}
	r.write(f.append(nil))
	ev := v.event(verbs.EventConnectRequest)
	if v.conn != nil {
		must(v.t, v.conn.Close())
	}
	v.conn = ev.Conn.(*Conn)
	v.newQP()
	v.recv(1, guardLo, 64)
	v.recv(2, guardLo, 64)
	must(v.t, v.conn.Accept(param))
	v.event(verbs.EventEstablished)
	r.reply()
	return r
}

// The part of a victim's memory that may change.
const guardLo, guardHi = 4096, 8192

// guard registers the part of the memory that may change and returns a check
// that the rest did not.
func (v *victim) guard() (mr *MR, check func()) {
	v.t.Helper()
	fill(v.mem, 9)
	want := append([]byte(nil), v.mem...)
	mr = v.register(v.mem[guardLo:guardHi], verbs.AccessLocalWrite|verbs.AccessRemoteWrite|verbs.AccessRemoteRead)
	return mr, func() {
		v.t.Helper()
		if !bytes.Equal(v.mem[:guardLo], want[:guardLo]) || !bytes.Equal(v.mem[guardHi:], want[guardHi:]) {
			v.t.Fatal("memory outside the region has changed")
		}
	}
}

// ended waits for the end of the connection under test: two receives are
// completed, EventDisconnected comes, and the witness lives.
func (v *victim) ended() {
	v.t.Helper()
	until(v.t, func() bool {
		v.poll()
		return v.qp.state == qpError && len(v.got) >= 2
	})
	v.event(verbs.EventDisconnected)
	v.alive()
}

func (v *victim) alive() {
	v.t.Helper()
	for v.poll() > 0 {
	}
	v.take()
	if _, err := v.witnessQ.PostRecv([]verbs.RecvWR{{ID: 99, SG: v.sge(0, 0)}}); err != nil {
		v.t.Fatal(err)
	}
	v.witness.send(verbs.SendWR{Op: verbs.OpSend})
	if wc := v.wait(v.witness, 1); wc[0].ID != 99 || wc[0].Status != verbs.WCSuccess {
		v.t.Fatalf("the other connection: %+v", wc)
	}
	v.take()
}
