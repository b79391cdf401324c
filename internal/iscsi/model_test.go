package iscsi_test

import (
	"bytes"
	"encoding/binary"
	"slices"
	"testing"

	"pgregory.net/rapid"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// model is an initiator that keeps the protocol and remembers what it asked
// for: every command is answered once, by GOOD with the data that is on the
// unit, or ended by task management and then not answered at all.
type model struct {
	*rig
	rt     *rapid.T
	disk   []byte // as it must be
	open   map[uint32]*pending
	maxSN  uint32
	statSN uint32
	aborts map[uint32][]uint32 // tags of tasks that a function under way ends
}

// pending is a command that is not answered.
type pending struct {
	write    bool
	lba, n   int
	data     []byte
	sent     int // of an unsolicited burst
	sn       int
	unsol    bool // more unsolicited data is to come
	finished bool
}

const modelBlocks = 24

// TestModel runs random legal traffic against the connection.
func TestModel(t *testing.T) {
	for _, mapped := range []bool{true, false} {
		name := "workers"
		if mapped {
			name = "mapped"
		}
		t.Run(name, func(t *testing.T) {
			rapid.Check(t, func(rt *rapid.T) {
				r := newRig(t, options{
					mapped: mapped, workers: 3, depth: 4, cmdSN: rapid.Uint32().Draw(rt, "CmdSN"),
					keys: []string{"InitialR2T=No", "FirstBurstLength=2048"},
				})
				m := &model{rig: r, rt: rt, disk: make([]byte, modelBlocks*blk), open: map[uint32]*pending{}, aborts: map[uint32][]uint32{}}
				m.maxSN = r.cmdSN + 3
				m.statSN = r.c.StatSN()
				rt.Repeat(map[string]func(*rapid.T){
					"write":      m.write,
					"read":       m.read,
					"dataOut":    m.sendDataOut,
					"answerR2T":  m.answerR2T,
					"nop":        m.nop,
					"abortSet":   m.abortSet,
					"completed":  func(*rapid.T) { m.poll() },
					"":           func(*rapid.T) { m.look() },
					"hangOrFree": m.hangOrFree,
				})
				m.finish()
				r.end()
			})
		})
	}
}

func (m *model) hangOrFree(rt *rapid.T) {
	if rapid.Bool().Draw(rt, "hang") {
		m.store.release()
		m.store.hang()
		return
	}
	m.store.release()
}

// poll takes what workers have finished.
func (m *model) poll() {
	select {
	case <-m.wake:
		m.c.Completed()
	default:
	}
}

func (m *model) room() bool { return !pdu.SNLess(m.maxSN, m.cmdSN) }

// overlaps reports whether a pending command touches the blocks; their order
// would not be known.
func (m *model) overlaps(lba, n int) bool {
	for _, p := range m.open {
		if lba < p.lba+p.n && p.lba < lba+n {
			return true
		}
	}
	return false
}

func (m *model) pick(rt *rapid.T) (lba, n int, ok bool) {
	lba = rapid.IntRange(0, modelBlocks-1).Draw(rt, "lba")
	n = rapid.IntRange(1, min(8, modelBlocks-lba)).Draw(rt, "blocks")
	return lba, n, m.room() && !m.overlaps(lba, n)
}

func (m *model) write(rt *rapid.T) {
	lba, n, ok := m.pick(rt)
	if !ok {
		return
	}
	p := &pending{write: true, lba: lba, n: n, data: pattern(n*blk, rapid.Byte().Draw(rt, "seed"))}
	limit := min(len(p.data), 2048)
	imm := rapid.IntRange(0, limit).Draw(rt, "immediate")
	p.unsol = imm < limit && rapid.Bool().Draw(rt, "unsolicited")
	p.sent = imm
	m.tag++
	m.open[m.tag] = p
	m.command(command{
		tag: m.tag, cdb: write10(lba, n), write: true, edtl: uint32(len(p.data)), data: bytes.Clone(p.data[:imm]),
		open: p.unsol, placed: rapid.Bool().Draw(rt, "placed"),
	})
}

func (m *model) read(rt *rapid.T) {
	lba, n, ok := m.pick(rt)
	if !ok {
		return
	}
	m.tag++
	m.open[m.tag] = &pending{lba: lba, n: n}
	m.command(command{tag: m.tag, cdb: read10(lba, n), read: true, edtl: uint32(n * blk)})
}

func (m *model) sendDataOut(rt *rapid.T) {
	var tags []uint32
	for tag, p := range m.open {
		if p.unsol {
			tags = append(tags, tag)
		}
	}
	if len(tags) == 0 {
		return
	}
	slices.Sort(tags)
	tag := rapid.SampledFrom(tags).Draw(rt, "tag")
	p := m.open[tag]
	limit := min(len(p.data), 2048)
	n := rapid.IntRange(1, limit-p.sent).Draw(rt, "n")
	final := p.sent+n == limit || rapid.Bool().Draw(rt, "final")
	off, sn := p.sent, p.sn
	p.sent += n
	p.sn++
	p.unsol = !final
	m.dataOut(tag, sn, off, bytes.Clone(p.data[off:off+n]), final, rapid.Bool().Draw(rt, "placed"))
}

func (m *model) answerR2T(rt *rapid.T) {
	if len(m.getting) == 0 {
		return
	}
	i := rapid.IntRange(0, len(m.getting)-1).Draw(rt, "which")
	m.getting[0], m.getting[i] = m.getting[i], m.getting[0]
	task := m.getting[0]
	m.solicited(task, m.open[task.InitiatorTaskTag].data, rapid.IntRange(1, 4096).Draw(rt, "piece"))
}

func (m *model) nop(rt *rapid.T) {
	m.tag++
	p := pdu.NOPOut{Immediate: rapid.Bool().Draw(rt, "immediate"), InitiatorTaskTag: m.tag, TargetTransferTag: pdu.ReservedTag, CmdSN: m.cmdSN}
	if !p.Immediate {
		if !m.room() {
			return
		}
		m.cmdSN++
	}
	m.open[m.tag] = &pending{finished: true}
	m.receive(&p, nil, false, nil)
}

// abortSet ends everything: whether a running write lands is not known until
// the function is answered.
func (m *model) abortSet(*rapid.T) {
	if len(m.aborts) > 0 {
		return
	}
	fid := m.tag + 1
	var tags []uint32
	for tag, p := range m.open {
		if !p.finished {
			tags = append(tags, tag)
		}
	}
	m.look() // what is answered already is not aborted
	m.aborts[fid] = tags
	m.tmf(pdu.AbortTaskSet, pdu.ReservedTag, 0)
}

// look checks everything that was sent.
func (m *model) look() {
	for _, o := range m.take() {
		if o.bhs.StatSN() != m.statSN {
			m.rt.Fatalf("%v: StatSN %#x, want %#x", o.bhs.String(), o.bhs.StatSN(), m.statSN)
		}
		m.statSN++
		if o.bhs.ExpCmdSN() != m.cmdSN || pdu.SNLess(o.bhs.MaxCmdSN(), m.maxSN) {
			m.rt.Fatalf("%v: ExpCmdSN %#x, want %#x; MaxCmdSN %#x after %#x", o.bhs.String(), o.bhs.ExpCmdSN(), m.cmdSN, o.bhs.MaxCmdSN(), m.maxSN)
		}
		m.maxSN = o.bhs.MaxCmdSN()
		tag := o.bhs.InitiatorTaskTag()
		if o.bhs.Opcode() == pdu.OpTaskManagementResponse {
			m.aborted(tag)
			continue
		}
		p := m.open[tag]
		if p == nil {
			m.rt.Fatalf("%v: an answer to nothing", o.bhs.String())
		}
		delete(m.open, tag)
		m.answer(p, o)
	}
}

func (m *model) answer(p *pending, o out) {
	if p.finished {
		return
	}
	if o.put != nil {
		if want := m.disk[p.lba*blk : (p.lba+p.n)*blk]; p.write || !bytes.Equal(o.data, want) {
			m.rt.Fatalf("READ of %d blocks at %d: other data", p.n, p.lba)
		}
		return
	}
	var resp pdu.SCSIResponse
	if err := resp.Decode(&o.bhs); err != nil || resp.Status != 0 || resp.Overflow || resp.Underflow || !p.write {
		m.rt.Fatalf("%+v, %v, sense % x", resp, err, o.data)
	}
	copy(m.disk[p.lba*blk:], p.data)
}

// aborted takes over what is on the unit where an ended write may have landed:
// from now on it does not change any more.
func (m *model) aborted(fid uint32) {
	tags, ok := m.aborts[fid]
	if !ok {
		m.rt.Fatalf("a function is answered that was not asked for: %d", fid)
	}
	delete(m.aborts, fid)
	for _, tag := range tags {
		p := m.open[tag]
		if p == nil {
			continue
		}
		delete(m.open, tag)
		if p.write {
			copy(m.disk[p.lba*blk:(p.lba+p.n)*blk], m.store.mem[p.lba*blk:(p.lba+p.n)*blk])
		}
	}
}

// finish brings everything to an end and compares the unit with the model.
func (m *model) finish() {
	m.store.release()
	for _, task := range slices.Clone(m.getting) {
		m.getting[0] = task
		m.solicited(task, m.open[task.InitiatorTaskTag].data, 4096)
	}
	for tag, p := range m.open {
		if p.unsol {
			limit := min(len(p.data), 2048)
			p.unsol = false
			m.dataOut(tag, p.sn, p.sent, p.data[p.sent:limit], true, false)
			if len(m.getting) > 0 {
				m.solicited(m.getting[0], p.data, 4096)
			}
		}
	}
	for m.look(); len(m.open) > 0 || len(m.aborts) > 0; m.look() {
		m.completed()
	}
	if m.c.Outstanding() != 0 || m.c.Tasks() != 0 || m.pool.InUse() != 0 {
		m.rt.Fatalf("%d tasks outstanding, %d known, %d bytes in use", m.c.Outstanding(), m.c.Tasks(), m.pool.InUse())
	}
	if !bytes.Equal(m.disk, m.store.mem[:len(m.disk)]) {
		m.rt.Fatal("the unit holds other data than was written")
	}
}

// FuzzConn throws arbitrary PDUs at a connection in the full feature phase:
// nothing may panic, and at the end no buffer and no lock is left. The input is
// a list of records: a flag byte, 48 bytes of header with some fields drawn to
// where they mean something, and data.
func FuzzConn(f *testing.F) {
	f.Add([]byte{0}, false)
	f.Add(bytes.Repeat([]byte{1, 0x81, 0xa0, 0, 0}, 60), true)
	for op := range 64 {
		rec := make([]byte, 64)
		rec[0], rec[1], rec[2] = 1, byte(op)|0x40, 0xa1
		f.Add(rec, op%2 == 0)
	}
	f.Fuzz(func(t *testing.T, in []byte, mapped bool) {
		r := newRig(t, options{mapped: mapped, workers: 2, pool: 4 << 20, keys: []string{"InitialR2T=No"}})
		for range 200 {
			if len(in) < 1+pdu.BHSLen || r.err != nil {
				break
			}
			flags := in[0]
			h := pdu.BHS(in[1:])
			in = in[1+pdu.BHSLen:]
			n := min(h.DataSegmentLength(), len(in), 8192)
			data := bytes.Clone(in[:n])
			in = in[n:]
			r.fuzzed(&h, data, flags)
		}
		r.store.release()
		select {
		case <-r.wake:
			r.c.Completed()
		default:
		}
		r.end()
	})
}

// fuzzed draws the fields of h towards sense as flags say, and hands it on.
func (r *rig) fuzzed(h *pdu.BHS, data []byte, flags byte) {
	h.SetTotalAHSLength(0)
	if flags&1 != 0 {
		h.SetInitiatorTaskTag(h.InitiatorTaskTag() & 3)
	}
	if flags&2 != 0 && h.Opcode() == pdu.OpDataOut {
		h.SetTargetTransferTag(pdu.ReservedTag)
	} else if flags&2 != 0 {
		h.SetCmdSN(r.cmdSN)
		if !h.Immediate() && h.Opcode() != pdu.OpDataOut {
			r.cmdSN++
		}
	}
	if flags&4 != 0 && h.Opcode() == pdu.OpSCSICommand {
		copy(h[32:], write10(0, int(flags>>4)))
		binary.BigEndian.PutUint32(h[20:], uint32(flags>>4)*blk)
	}
	if flags&8 != 0 {
		h.SetLUN(0)
	}
	switch flags >> 5 {
	case 1:
		r.store.release()
		r.store.hang()
	case 2:
		r.store.release()
	case 3:
		for _, t := range slices.Clone(r.getting) {
			r.solicitedFuzz(t)
		}
	case 4:
		r.c.Completed()
	case 5:
		r.c.Ping()
	case 6:
		r.c.Abort(nil, iscsi.ByNexus, func(int) {})
	}
	h.SetDataSegmentLength(len(data))
	if h.Opcode() == pdu.OpDataOut && h.TargetTransferTag() != pdu.ReservedTag {
		var d pdu.DataOut
		if d.Decode(h) == nil {
			r.err = r.c.StrayDataOut(h, &d)
		}
		return
	}
	r.receiveBHS(h, data, flags&16 != 0, nil)
}

// solicitedFuzz answers one task's request for data.
func (r *rig) solicitedFuzz(t *iscsi.Task) {
	for i, g := range r.getting {
		if g == t {
			r.getting[0], r.getting[i] = r.getting[i], r.getting[0]
			r.solicited(t, make([]byte, t.Expected()), 4096)
			return
		}
	}
}
