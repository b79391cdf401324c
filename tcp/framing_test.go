package tcp_test

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

var digests = [][]string{
	nil,
	{"HeaderDigest=CRC32C"},
	{"DataDigest=CRC32C"},
	{"HeaderDigest=CRC32C", "DataDigest=CRC32C"},
}

// golden is a stream with every kind of PDU: data segments of all paddings,
// AHS, data that is immediate, unsolicited and solicited, large and small. The
// TransferTags of the target count from 1, so no answer has to be waited for.
func golden(keys []string) *stream {
	s := &stream{}
	s.login(append([]string{"InitialR2T=No", "FirstBurstLength=8192", "MaxBurstLength=8192", "MaxOutstandingR2T=2"}, keys...)...)
	s.tur() // unit attention
	s.tur()
	for i := range 4 {
		s.tag++
		s.pdu(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: s.tag, TargetTransferTag: pdu.ReservedTag, CmdSN: s.cmdSN}, nil, pattern(5+i, 1))
	}
	ahs, _ := pdu.AppendExtendedCDB(nil, make([]byte, 40))
	s.command(pdu.SCSICommand{Final: true}, make([]byte, 6), ahs, nil)
	s.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 2 * blk}, write10(3, 2), nil, pattern(2*blk, 2))
	data := pattern(40*blk, 3) // 8 KiB unsolicited, of which 301 immediate; 12 KiB solicited
	tag := s.command(pdu.SCSICommand{Write: true, ExpectedDataTransferLength: 40 * blk}, write10(10, 40), nil, data[:301])
	out := func(ttt uint32, sn, off, end int, final bool) {
		s.pdu(&pdu.DataOut{Final: final, InitiatorTaskTag: tag, TargetTransferTag: ttt, DataSN: uint32(sn), BufferOffset: uint32(off)}, nil, data[off:end])
	}
	out(pdu.ReservedTag, 0, 301, 602, false)
	out(pdu.ReservedTag, 1, 602, 8192, true)
	out(1, 0, 8192, 9000, false)
	out(1, 1, 9000, 16384, true)
	out(2, 0, 16384, 20480, true)
	s.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 50 * blk}, read10(5, 50), nil, nil)
	s.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 101}, read10(11, 1), nil, nil)
	s.tag++
	s.pdu(&pdu.TextRequest{Final: true, InitiatorTaskTag: s.tag, TargetTransferTag: pdu.ReservedTag, CmdSN: s.cmdSN}, nil, []byte("X-com.example.k=v\x00"))
	s.cmdSN++
	s.pdu(&pdu.SNACK{}, nil, nil)
	return s
}

// play sends a stream in pieces and returns what the target answers.
func play(t *testing.T, d *disk, keys []string, cut func(n int) int) []byte {
	t.Helper()
	r := newRig(t, d, nil)
	defer r.close()
	var got []byte
	for b := golden(keys).take(); len(b) > 0; {
		n := cut(len(b))
		if err := r.send(b[:n]); err != nil {
			t.Fatal(err)
		}
		got = append(got, r.drain()...)
		b = b[n:]
	}
	if n := r.conn.Transfers(); n != 0 {
		t.Errorf("%d transfers are left", n)
	}
	return got
}

// TestFraming plays the same stream whole, byte by byte, cut once at every
// point, and cut at random: the answers are the same to the byte.
func TestFraming(t *testing.T) {
	for _, keys := range digests {
		t.Run(fmt.Sprint(keys), func(t *testing.T) {
			d := newDisk(t)
			whole := play(t, d, keys, func(n int) int { return n })
			s := golden(keys)
			checkGolden(t, d, s, whole)
			check := func(name string, cut func(n int) int) {
				t.Helper()
				if got := play(t, d, keys, cut); !bytes.Equal(whole, got) {
					t.Fatalf("%s: other answers: %d bytes, want %d", name, len(got), len(whole))
				}
			}
			check("byte by byte", func(int) int { return 1 })
			total := len(s.out)
			for at := 1; at < total; at++ {
				if !s.nearEdge(at) && at%97 != 0 || testing.Short() && at%13 != 0 {
					continue
				}
				check(fmt.Sprint("cut at ", at), func(n int) int {
					if n == total {
						return at
					}
					return n
				})
			}
			rng := rand.New(rand.NewPCG(1, 2))
			for i := range 50 {
				check(fmt.Sprint("random ", i), func(n int) int { return min(n, 1+rng.IntN(3000)) })
			}
		})
	}
}

// nearEdge reports whether a point of the stream is in a header or digest, or
// close to one; in the midst of data all points are alike.
func (s *stream) nearEdge(at int) bool {
	for _, e := range s.edges {
		if at >= e-8 && at <= e+pdu.BHSLen+8 {
			return true
		}
	}
	return false
}

func checkGolden(t *testing.T, d *disk, s *stream, answers []byte) {
	t.Helper()
	var ops []string
	var read []byte
	for _, p := range parse(t, answers, s, false) {
		ops = append(ops, p.BHS.Opcode().String())
		if p.BHS.Opcode() == pdu.OpDataIn {
			read = append(read, p.Data...)
		}
		if p.BHS.Opcode() == pdu.OpSCSIResponse && len(ops) > 2 && p.BHS[3] != 0 && p.BHS.InitiatorTaskTag() != 17 {
			t.Errorf("%v: status %d", p.BHS.String(), p.BHS[3])
		}
	}
	want := []string{
		"Login Response", "SCSI Response", "SCSI Response", "NOP-In", "NOP-In", "NOP-In", "NOP-In", "SCSI Response", "SCSI Response",
		"R2T", "R2T", "SCSI Response", "SCSI Data-In", "SCSI Data-In", "SCSI Data-In", "SCSI Data-In", "SCSI Data-In", "Text Response", "Reject",
	}
	if diff := cmp.Diff(want, ops); diff != "" {
		t.Error(diff)
	}
	if !bytes.Equal(d.mem[10*blk:50*blk], pattern(40*blk, 3)) || !bytes.Equal(d.mem[3*blk:5*blk], pattern(2*blk, 2)) {
		t.Error("other data is stored")
	}
	if want := append(bytes.Clone(d.mem[5*blk:55*blk]), d.mem[11*blk:11*blk+101]...); !bytes.Equal(read, want) {
		t.Error("other data is read")
	}
}

// TestDigestFlips flips each bit of two PDUs: nothing is stored, no answer
// comes to what was damaged, and the connection ends or waits for more.
func TestDigestFlips(t *testing.T) {
	keys := digests[3]
	d := newDisk(t)
	start := &stream{}
	start.login(keys...)
	start.tur()
	prefix := start.take()
	start.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: blk}, write10(0, 1), nil, pattern(blk, 9))
	victim := start.take()
	step := 1
	if testing.Short() {
		step = 13
	}
	for bit := 0; bit < 8*len(victim); bit += step {
		r := newRig(t, d, nil)
		if err := r.send(prefix); err != nil {
			t.Fatal(err)
		}
		r.drain()
		b := bytes.Clone(victim)
		b[bit/8] ^= 1 << (bit % 8)
		err := r.send(b)
		answers := parse(t, r.drain(), start, true)
		if err == nil && (len(answers) > 0 || !lengthens(bit/8)) {
			t.Fatalf("bit %d: no error, answers %v", bit, answers)
		}
		for _, p := range answers {
			if p.BHS.Opcode() != pdu.OpReject || pdu.RejectReason(p.BHS[2]) != pdu.RejectDataDigestError {
				t.Fatalf("bit %d: answered by %v", bit, p.BHS.String())
			}
		}
		if bit/8 >= pdu.BHSLen+4 && len(answers) != 1 {
			t.Fatalf("bit %d: no Reject of a data digest error", bit)
		}
		if !bytes.Equal(d.mem[:blk], make([]byte, blk)) {
			t.Fatalf("bit %d: damaged data is stored", bit)
		}
		r.close()
	}
	r := newRig(t, d, nil)
	if err := r.send(append(bytes.Clone(prefix), victim...)); err != nil || !bytes.Equal(d.mem[:blk], pattern(blk, 9)) {
		t.Errorf("the undamaged stream: %v", err)
	}
}

// lengthens reports whether a byte of the header makes the PDU longer, so that
// the target waits.
func lengthens(i int) bool { return i >= 4 && i < 8 }

// TestLargeSegments receives data segments past the size of one receive, and
// longer than the receive buffer, into their place.
func TestLargeSegments(t *testing.T) {
	for _, keys := range digests {
		for _, n := range []int{200 << 10, 256<<10 + 512, 512 << 10, 600 << 10, 3 << 20} {
			t.Run(fmt.Sprint(keys, n), func(t *testing.T) {
				d := newDisk(t)
				ours, theirs := loopback(t)
				r := newRigOver(t, d, ours, theirs, func(l *login.Limits) {
					l.MaxRecvDataSegmentLength, l.FirstBurstLength, l.MaxBurstLength = 4<<20, 4<<20, 4<<20
				})
				s := &stream{}
				s.login(append([]string{"InitialR2T=No", "FirstBurstLength=4194304", "MaxBurstLength=4194304"}, keys...)...)
				s.tur()
				one, two, three := pattern(n, 1), pattern(n, 2), pattern(n, 3)
				write := func(lba int, data []byte, immediate int) uint32 {
					return s.command(pdu.SCSICommand{Final: immediate == len(data), Write: true, ExpectedDataTransferLength: uint32(n)}, write10(lba, n/blk), nil, data[:immediate])
				}
				write(0, one, n)
				tag := write(1, two, 0)
				s.pdu(&pdu.DataOut{Final: true, InitiatorTaskTag: tag, TargetTransferTag: pdu.ReservedTag}, nil, two)
				tag = s.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: uint32(n)}, write10(2, n/blk), nil, nil)
				s.pdu(&pdu.DataOut{Final: true, InitiatorTaskTag: tag, TargetTransferTag: 1}, nil, three)
				s.tur()
				r.whole(s.take())
				want := append(append(bytes.Clone(one[:blk]), two[:blk]...), three...)
				if !bytes.Equal(d.mem[:len(want)], want) {
					t.Error("other data is stored")
				}
				if got := parse(t, r.drain(), s, false); len(got) != 7 || got[6].BHS[3] != 0 {
					t.Errorf("%d answers", len(got))
				}
			})
		}
	}
}

// whole sends b and lets as much of it as possible be in the socket before each
// turn, so that one receive gets all that it asks for.
func (r *rig) whole(b []byte) {
	r.t.Helper()
	done := make(chan struct{})
	go func() {
		defer close(done)
		_, _ = r.peer.Write(b)
	}()
	for sent := false; ; {
		select {
		case <-done:
			sent = true
		case <-time.After(20 * time.Millisecond):
		}
		if err := r.turns(); err != nil {
			r.t.Fatal(err)
		}
		// What is written may still be on its way.
		if sent && r.unsent() == 0 {
			if err := r.turns(); err != nil {
				r.t.Fatal(err)
			}
			return
		}
		if sent {
			time.Sleep(time.Millisecond)
		}
	}
}

// unsent is how much the peer's socket has not delivered yet.
func (r *rig) unsent() (n int) {
	raw, err := r.peer.SyscallConn()
	if err != nil {
		r.t.Fatal(err)
	}
	err = raw.Control(func(fd uintptr) {
		if n, err = unix.IoctlGetInt(int(fd), unix.SIOCOUTQ); err != nil {
			n = 0
		}
	})
	if err != nil {
		r.t.Fatal(err)
	}
	return n
}

// TestTooLong: a data segment beyond what was declared ends the connection
// before any of it is taken, in every phase.
func TestTooLong(t *testing.T) {
	for _, loggedIn := range []bool{false, true} {
		for _, op := range []pdu.Opcode{pdu.OpLoginRequest, pdu.OpSCSICommand, pdu.OpDataOut} {
			r := newRig(t, newDisk(t), nil)
			s := &stream{}
			if loggedIn {
				s.login()
				s.tur()
				if err := r.send(s.take()); err != nil {
					t.Fatal(err)
				}
			}
			var h pdu.BHS
			h.SetOpcode(op)
			h.SetDataSegmentLength(1 << 23)
			if err := r.send(h[:]); err == nil {
				t.Errorf("logged in %v, %v: taken", loggedIn, op)
			}
			if r.pool.InUse()+r.rx.InUse() != 0 {
				t.Errorf("%d and %d bytes in use", r.pool.InUse(), r.rx.InUse())
			}
		}
	}
}

// TestReceivePoolSpent: without receive buffers a connection still works.
func TestReceivePoolSpent(t *testing.T) {
	d := newDisk(t)
	r := newRig(t, d, nil)
	all := r.rx.Get(16 << 20)
	var rest []interface{ Release() }
	for b := all; b != nil; b = r.rx.Get(16 << 20) {
		rest = append(rest, b)
	}
	for b := r.rx.Get(4096); b != nil; b = r.rx.Get(4096) {
		rest = append(rest, b)
	}
	defer func() {
		for _, b := range rest {
			b.Release()
		}
	}()
	s := golden(nil)
	if err := r.send(s.take()); err != nil {
		t.Fatal(err)
	}
	checkGolden(t, d, s, r.drain())
}
