package iscsi_test

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// TestWriteSplits writes with every split of the data into immediate,
// unsolicited and solicited parts, in pieces of several sizes, placed and not,
// inline and on workers.
func TestWriteSplits(t *testing.T) {
	const total = 8 * blk
	for _, mapped := range []bool{true, false} {
		for _, placed := range []bool{true, false} {
			t.Run(fmt.Sprintf("mapped %v placed %v", mapped, placed), func(t *testing.T) {
				r := newRig(t, options{mapped: mapped, keys: []string{"InitialR2T=No", fmt.Sprintf("FirstBurstLength=%d", 5*blk)}})
				seed := byte(0)
				for imm := 0; imm <= 5*blk; imm += blk {
					for unsol := 0; imm+unsol <= 5*blk; unsol += blk {
						for _, piece := range []int{blk, 3 * blk, total} {
							if unsol > 0 && imm+unsol < 5*blk && piece != blk {
								continue
							}
							seed++
							r.writeSplit(imm, unsol, piece, total, seed, placed)
						}
					}
				}
			})
		}
	}
}

func (r *rig) writeSplit(imm, unsol, piece, total int, seed byte, placed bool) {
	r.t.Helper()
	data := pattern(total, seed)
	lba := int(seed) % 32
	tag := r.command(command{
		cdb: write10(lba, total/blk), write: true, edtl: uint32(total), data: data[:imm], open: unsol > 0, placed: placed,
	})
	for off, sn := imm, 0; off < imm+unsol; sn++ {
		n := min(piece, imm+unsol-off)
		r.dataOut(tag, sn, off, data[off:off+n], off+n == imm+unsol, placed)
		off += n
	}
	if len(r.getting) != 1 {
		r.t.Fatalf("imm %d unsol %d: GetData for %d tasks; sent %v", imm, unsol, len(r.getting), names(r.sent))
	}
	if got := r.getting[0]; got.Received() != imm+unsol || got.Expected() != total {
		r.t.Fatalf("imm %d unsol %d: asks from %d to %d", imm, unsol, got.Received(), got.Expected())
	}
	r.solicited(r.getting[0], data, piece)
	if !r.store.mapped {
		r.completed()
	}
	r.good(tag)
	if !bytes.Equal(r.store.mem[lba*blk:lba*blk+total], data) {
		r.t.Fatalf("imm %d unsol %d piece %d: other data is stored", imm, unsol, piece)
	}
}

// TestWriteImmediateOnly: all data in the command PDU, the inline fast path.
func TestWriteImmediateOnly(t *testing.T) {
	for _, mapped := range []bool{true, false} {
		for _, placed := range []bool{true, false} {
			r := newRig(t, options{mapped: mapped})
			data := pattern(4*blk, 3)
			tag := r.command(command{cdb: write10(9, 4), write: true, edtl: 4 * blk, data: data, placed: placed})
			clear(data[:0]) // the connection has only borrowed it
			if !mapped {
				r.completed()
			}
			r.good(tag)
			if !bytes.Equal(r.store.mem[9*blk:13*blk], data) {
				t.Errorf("mapped %v, placed %v: other data is stored", mapped, placed)
			}
		}
	}
}

// TestImmediateDataIsBorrowed: what a worker writes must not be the receive
// buffer, which is used again.
func TestImmediateDataIsBorrowed(t *testing.T) {
	r := newRig(t, options{})
	r.store.hang()
	data := pattern(blk, 1)
	tag := r.command(command{cdb: write10(0, 1), write: true, edtl: blk, data: data})
	clear(data)
	r.store.release()
	r.completed()
	r.good(tag)
	if !bytes.Equal(r.store.mem[:blk], pattern(blk, 1)) {
		t.Error("the data was used after it was given back")
	}
}

// TestImmediateGrows: immediate data is placed into a buffer that turns out to
// be too small for the unsolicited data that follows.
func TestImmediateGrows(t *testing.T) {
	r := newRig(t, options{mapped: true, keys: []string{"InitialR2T=No"}})
	data := pattern(64<<10, 5)
	// The CDB takes one block; the initiator announces and sends 64 KiB.
	tag := r.command(command{cdb: write10(0, 1), write: true, edtl: 64 << 10, data: data[:256], open: true, placed: true})
	for off, sn := 256, 0; off < len(data); sn++ {
		n := min(8192, len(data)-off)
		r.dataOut(tag, sn, off, data[off:off+n], off+n == len(data), true)
		off += n
	}
	p := r.good(tag)
	if !p.Underflow || p.ResidualCount != 64<<10-blk {
		t.Errorf("residual %v %v %d", p.Overflow, p.Underflow, p.ResidualCount)
	}
	if !bytes.Equal(r.store.mem[:blk], data[:blk]) {
		t.Error("other data is stored")
	}
}

// TestUnexpectedData is data that was not to come, RFC 7143 §11.4.7.2.
func TestUnexpectedData(t *testing.T) {
	t.Run("immediate data without ImmediateData", func(t *testing.T) {
		r := newRig(t, options{mapped: true, keys: []string{"ImmediateData=No"}})
		r.check(r.command(command{cdb: write10(0, 1), write: true, edtl: blk, data: pattern(blk, 1)}), 0xb, scsi.UnexpectedUnsolicitedData)
	})
	t.Run("more than FirstBurstLength", func(t *testing.T) {
		r := newRig(t, options{mapped: true, keys: []string{"FirstBurstLength=512"}})
		r.check(r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(2*blk, 1)}), 0xb, scsi.NotEnoughUnsolicitedData)
	})
	t.Run("more than the command expects", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		r.check(r.command(command{cdb: write10(0, 1), write: true, edtl: blk, data: pattern(2*blk, 1)}), 0xb, scsi.NotEnoughUnsolicitedData)
	})
	t.Run("unsolicited with InitialR2T", func(t *testing.T) {
		r := newRig(t, options{mapped: true, keys: []string{"InitialR2T=Yes"}})
		tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, data: pattern(blk, 1), open: true})
		r.nothing() // the status waits for the last of the data
		r.dataOut(tag, 0, blk, pattern(blk, 1), true, false)
		r.check(tag, 0xb, scsi.UnexpectedUnsolicitedData)
	})
	t.Run("data of a read", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		r.command(command{cdb: read10(0, 1), read: true, edtl: blk, data: pattern(blk, 1)})
		r.rejected(pdu.RejectInvalidPDUField)
	})
	t.Run("of no task", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		r.dataOut(4711, 0, 0, pattern(blk, 1), true, false)
		r.rejected(pdu.RejectInvalidPDUField)
	})
	for _, tt := range []struct {
		name    string
		sn, off int
		n       int
		final   bool
	}{
		{"wrong DataSN", 1, 0, blk, false},
		{"wrong offset", 0, blk, blk, false},
		{"too much", 0, 0, 3 * blk, true},
		{"too much without F", 0, 0, 3 * blk, false},
		{"all of it without F", 0, 0, 2 * blk, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, options{mapped: true, keys: []string{"InitialR2T=No"}})
			tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk, open: true})
			r.dataOut(tag, tt.sn, tt.off, pattern(tt.n, 1), tt.final, false)
			if !tt.final {
				r.nothing()
				r.dataOut(tag, tt.sn+1, tt.off, pattern(blk, 1), true, false)
			}
			r.check(tag, 0xb, scsi.NotEnoughUnsolicitedData)
			if !bytes.Equal(r.store.mem[:3*blk], make([]byte, 3*blk)) {
				t.Error("something was stored")
			}
			r.good(r.command(command{cdb: make([]byte, 6)}))
		})
	}
}

// TestEarlyFailure: a write that fails before its data is here keeps its status
// until the last unsolicited PDU; that data is no protocol error.
func TestEarlyFailure(t *testing.T) {
	for _, tt := range []struct {
		name string
		c    command
		key  byte
		asc  scsi.ASC
		prep func(r *rig)
	}{
		{"no logical unit", command{cdb: write10(0, 2), lun: pdu.LUNOf(5)}, 5, 0x2500, nil},
		{"unit attention", command{cdb: write10(0, 2)}, 6, 0x2900, func(r *rig) { r.nexus.Attention(scsi.AttentionPowerOn) }},
		{"out of range", command{cdb: write10(unitSize/blk, 2)}, 5, scsi.LBAOutOfRange, nil},
		{"bidirectional", command{cdb: write10(0, 2), read: true}, 5, 0x0e03, nil},
	} {
		for _, placed := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s placed %v", tt.name, placed), func(t *testing.T) {
				r := newRig(t, options{mapped: true, keys: []string{"InitialR2T=No"}})
				if tt.prep != nil {
					tt.prep(r)
				}
				data := pattern(2*blk, 1)
				tt.c.write, tt.c.edtl, tt.c.data, tt.c.open, tt.c.placed = true, 2*blk, data[:300], true, placed
				tag := r.command(tt.c)
				r.nothing()
				r.dataOut(tag, 0, 300, data[300:600], false, placed)
				r.nothing()
				r.dataOut(tag, 1, 600, data[600:], true, placed)
				r.check(tag, tt.key, tt.asc)
				if r.c.Outstanding() != 0 || r.c.Tasks() != 0 {
					t.Errorf("%d tasks outstanding", r.c.Outstanding())
				}
			})
		}
	}
}

// TestNoBuffers: with the pool spent a write is answered TASK SET FULL, and its
// data is drained.
func TestNoBuffers(t *testing.T) {
	for _, placed := range []bool{false, true} {
		t.Run(fmt.Sprint("placed ", placed), func(t *testing.T) {
			r := newRig(t, options{mapped: true, pool: 4096, keys: []string{"InitialR2T=No"}})
			tag := r.command(command{cdb: write10(0, 64), write: true, edtl: 64 * blk})
			if p, _ := r.response(tag); p.Status != uint8(scsi.TaskSetFull) {
				t.Errorf("status %#x", p.Status)
			}
			tag = r.command(command{cdb: write10(0, 64), write: true, edtl: 64 * blk, data: pattern(300, 1), open: true, placed: placed})
			r.nothing()
			r.dataOut(tag, 0, 300, pattern(64*blk-300, 1), true, placed)
			if p, _ := r.response(tag); p.Status != uint8(scsi.TaskSetFull) {
				t.Errorf("status %#x", p.Status)
			}
			if r.pool.InUse() != 0 {
				t.Errorf("%d bytes in use", r.pool.InUse())
			}
		})
	}
	t.Run("read", func(t *testing.T) {
		r := newRig(t, options{pool: 4096})
		tag := r.command(command{cdb: read10(0, 64), read: true, edtl: 64 * blk})
		if p, _ := r.response(tag); p.Status != uint8(scsi.TaskSetFull) {
			t.Errorf("status %#x", p.Status)
		}
	})
}

// TestStrayDataOut is solicited data that the datamover cannot place.
func TestStrayDataOut(t *testing.T) {
	r := newRig(t, options{mapped: true, keys: []string{"InitialR2T=Yes", "ImmediateData=No"}})
	tag := r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk})
	r.nothing()
	if len(r.getting) != 1 {
		t.Fatal("no data was asked for")
	}
	stray := func(tag uint32) {
		d := pdu.DataOut{Final: true, InitiatorTaskTag: tag, TargetTransferTag: 99, DataLen: blk}
		var h pdu.BHS
		d.Encode(&h)
		if err := r.c.StrayDataOut(&h, &d); err != nil {
			t.Fatal(err)
		}
	}
	stray(tag)
	r.check(tag, 0xb, scsi.NotEnoughUnsolicitedData)
	if len(r.getting) != 0 {
		t.Error("the datamover still asks for the data")
	}
	stray(tag) // more of it is dropped
	r.nothing()
	stray(4711)
	r.rejected(pdu.RejectInvalidPDUField)
	// Unsolicited data for a task that has R2Ts out is wrong, and harmless.
	tag = r.command(command{cdb: write10(0, 2), write: true, edtl: 2 * blk})
	r.dataOut(tag, 0, 0, pattern(blk, 1), true, false)
	r.rejected(pdu.RejectInvalidPDUField)
	r.solicited(r.getting[0], pattern(2*blk, 7), blk)
	r.good(tag)
}

// TestResiduals is RFC 7143 §11.4.5: all ways that the initiator's and the
// CDB's idea of a transfer can differ.
func TestResiduals(t *testing.T) {
	type want struct {
		over, under bool
		count       uint32
	}
	for _, tt := range []struct {
		name   string
		cdb    []byte
		read   bool
		write  bool
		edtl   uint32
		want   want
		inData int
	}{
		{"read, exact", read10(0, 2), true, false, 2 * blk, want{}, 2 * blk},
		{"read, more expected", read10(0, 2), true, false, 3 * blk, want{under: true, count: blk}, 2 * blk},
		{"read, less expected", read10(0, 2), true, false, blk, want{over: true, count: blk}, blk},
		{"read, part of a block expected", read10(0, 2), true, false, 100, want{over: true, count: 2*blk - 100}, 100},
		{"read, nothing expected", read10(0, 2), true, false, 0, want{over: true, count: 2 * blk}, 0},
		{"read without R", read10(0, 2), false, false, 0, want{over: true, count: 2 * blk}, 0},
		{"read with W", read10(0, 2), false, true, 2 * blk, want{over: true, count: 2 * blk}, 0},
		{"write, exact", write10(0, 2), false, true, 2 * blk, want{}, 0},
		{"write, more expected", write10(0, 2), false, true, 3 * blk, want{under: true, count: blk}, 0},
		{"write, less expected", write10(0, 2), false, true, blk, want{over: true, count: blk}, 0},
		{"write, nothing expected", write10(0, 2), false, true, 0, want{over: true, count: 2 * blk}, 0},
		{"write without W", write10(0, 2), false, false, 0, want{over: true, count: 2 * blk}, 0},
		{"write with R", write10(0, 2), true, false, 2 * blk, want{over: true, count: 2 * blk}, 0},
		{"no data, none expected", make([]byte, 6), false, false, 0, want{}, 0},
		{"no data, a read expected", make([]byte, 6), true, false, 64, want{under: true, count: 64}, 0},
		{"no data, a write expected", make([]byte, 6), false, true, 64, want{under: true, count: 64}, 0},
	} {
		for _, mapped := range []bool{true, false} {
			t.Run(fmt.Sprintf("%s mapped %v", tt.name, mapped), func(t *testing.T) {
				r := newRig(t, options{mapped: mapped})
				tag := r.command(command{cdb: tt.cdb, read: tt.read, write: tt.write, edtl: tt.edtl})
				if len(r.getting) > 0 {
					task := r.getting[0]
					r.solicited(task, pattern(task.Expected(), 1), 4096)
				}
				for i := 0; len(r.sent) == 0 && i < 1; i++ {
					r.completed()
				}
				s := r.take()
				if len(s) != 1 || s[0].bhs.InitiatorTaskTag() != tag {
					t.Fatalf("sent %v", names(s))
				}
				got := want{s[0].overflow, s[0].underflow, s[0].residual}
				if s[0].put == nil {
					var p pdu.SCSIResponse
					if err := p.Decode(&s[0].bhs); err != nil || p.Status != 0 {
						t.Fatalf("%+v, %v", p, err)
					}
					got = want{p.Overflow, p.Underflow, p.ResidualCount}
				}
				if got != tt.want {
					t.Errorf("residual %+v, want %+v", got, tt.want)
				}
				if s[0].put != nil && len(s[0].data) != tt.inData || s[0].put == nil && tt.inData > 0 {
					t.Errorf("%d bytes of data, want %d", len(s[0].data), tt.inData)
				}
			})
		}
	}
}
