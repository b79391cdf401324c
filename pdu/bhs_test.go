package pdu_test

import (
	"errors"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/iserd/iserd/pdu"
)

func TestBHSFields(t *testing.T) {
	var h pdu.BHS
	h.SetOpcode(pdu.OpSCSICommand)
	h.SetImmediate(true)
	h.SetFinal(true)
	h.SetTotalAHSLength(pdu.MaxTotalAHSLength)
	h.SetDataSegmentLength(pdu.MaxDataSegmentLength)
	h.SetLUN(0x0102030405060708)
	h.SetInitiatorTaskTag(1)
	h.SetTargetTransferTag(2)
	h.SetCmdSN(3)
	h.SetExpStatSN(4)
	h.SetMaxCmdSN(5)
	h.SetOpcode(pdu.OpReject) // keeps the I bit
	want := pdu.BHS{
		0: 0x7f, 1: 0x80, 4: 0xff, 5: 0xff, 6: 0xff, 7: 0xff,
		8: 1, 9: 2, 10: 3, 11: 4, 12: 5, 13: 6, 14: 7, 15: 8,
		19: 1, 23: 2, 27: 3, 31: 4, 35: 5,
	}
	if h != want {
		t.Fatalf("got  %x\nwant %x", h, want)
	}
	got := fmt.Sprint(h.Opcode(), h.Immediate(), h.Final(), h.TotalAHSLength(), h.DataSegmentLength(), uint64(h.LUN()),
		h.InitiatorTaskTag(), h.TargetTransferTag(), h.CmdSN(), h.ExpStatSN(), h.StatSN(), h.ExpCmdSN(), h.MaxCmdSN())
	if want := fmt.Sprint(pdu.OpReject, true, true, 1020, 0xffffff, uint64(0x0102030405060708), 1, 2, 3, 4, 3, 4, 5); got != want {
		t.Fatalf("got  %s\nwant %s", got, want)
	}
	h.SetImmediate(false)
	h.SetFinal(false)
	h.SetStatSN(8)
	h.SetExpCmdSN(9)
	if h[0] != 0x3f || h[1] != 0 || h.StatSN() != 8 || h.ExpCmdSN() != 9 {
		t.Fatalf("got %x", h)
	}
}

func TestBHSLength(t *testing.T) {
	tests := []struct {
		ahs, data       int
		header, dataDig bool
		want            int
	}{
		{0, 0, false, false, 48},
		{0, 0, true, true, 52}, // no data segment, no data digest
		{0, 1, false, false, 52},
		{0, 4, false, true, 56},
		{20, 5, true, true, 48 + 20 + 4 + 8 + 4},
		{1020, 0xffffff, true, true, 48 + 1020 + 4 + 0x1000000 + 4},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("ahs=%d,data=%d,%t,%t", tt.ahs, tt.data, tt.header, tt.dataDig), func(t *testing.T) {
			var h pdu.BHS
			h.SetTotalAHSLength(tt.ahs)
			h.SetDataSegmentLength(tt.data)
			if got := h.Length(tt.header, tt.dataDig); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
		})
	}
}

func TestPad(t *testing.T) {
	for n := range 65 {
		if p := pdu.Pad(n); p < 0 || p > 3 || (n+p)%4 != 0 {
			t.Errorf("Pad(%d) = %d", n, p)
		}
	}
}

func TestLUN(t *testing.T) {
	tests := []struct {
		name string
		lun  pdu.LUN
		n    uint16
		ok   bool
		str  string
	}{
		{"zero", 0, 0, true, "0"},
		{"peripheral", 0x00ff << 48, 255, true, "255"},
		{"peripheral, bus 1", 0x0100 << 48, 0, false, "0x0100000000000000"},
		{"flat below 256", 0x4005 << 48, 5, true, "5"},
		{"flat", 0x7fff << 48, 16383, true, "16383"},
		{"second level", 0x0005_0001 << 32, 0, false, "0x0005000100000000"},
		{"logical unit addressing", 0x8005 << 48, 0, false, "0x8005000000000000"},
		{"extended flat", 0xd200_4000 << 32, 0, false, "0xd200400000000000"},
		{"REPORT LUNS", pdu.LUNReportLUNs, 0, false, "0xc101000000000000"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n, ok := tt.lun.Flat()
			if ok != tt.ok || ok && n != tt.n {
				t.Errorf("Flat() = %d, %t; want %d, %t", n, ok, tt.n, tt.ok)
			}
			if got := tt.lun.String(); got != tt.str {
				t.Errorf("String() = %s, want %s", got, tt.str)
			}
		})
	}
}

func TestLUNOf(t *testing.T) {
	seen := make(map[pdu.LUN]bool)
	for i := range 1 << 16 {
		l := pdu.LUNOf(uint16(i))
		if seen[l] {
			t.Fatalf("LUNOf(%d) = %#x came before", i, uint64(l))
		}
		seen[l] = true
		n, ok := l.Flat()
		if want := i < 1<<14; ok != want || ok && int(n) != i {
			t.Fatalf("LUNOf(%d).Flat() = %d, %t", i, n, ok)
		}
	}
	if l := pdu.LUNOf(0x4000); l != 0xd200_4000<<32 {
		t.Errorf("LUNOf(0x4000) = %#x, want extended flat space addressing", uint64(l))
	}
}

func TestSerialNumbers(t *testing.T) {
	tests := []struct {
		a, b         uint32
		less, lessEq bool
		diff         int32
	}{
		{0, 0, false, true, 0},
		{0, 1, true, true, -1},
		{1, 0, false, false, 1},
		{0xffffffff, 0, true, true, -1},
		{0, 0xffffffff, false, false, 1},
		{0, 0x7fffffff, true, true, -0x7fffffff},
		{0x7fffffff, 0, false, false, 0x7fffffff},
		{0, 0x80000000, false, false, -0x80000000}, // not ordered
		{0x80000000, 0, false, false, -0x80000000},
	}
	for _, tt := range tests {
		t.Run(fmt.Sprintf("%#x,%#x", tt.a, tt.b), func(t *testing.T) {
			if got := pdu.SNLess(tt.a, tt.b); got != tt.less {
				t.Errorf("SNLess = %t", got)
			}
			if got := pdu.SNLessEq(tt.a, tt.b); got != tt.lessEq {
				t.Errorf("SNLessEq = %t", got)
			}
			if got := pdu.SNDiff(tt.a, tt.b); got != tt.diff {
				t.Errorf("SNDiff = %d", got)
			}
		})
	}
}

func TestSerialNumberOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a := rapid.Uint32().Draw(t, "a")
		d := rapid.Uint32Range(1, 1<<31-1).Draw(t, "d")
		b := a + d
		if !pdu.SNLess(a, b) || pdu.SNLess(b, a) || !pdu.SNLessEq(a, b) || pdu.SNLessEq(b, a) {
			t.Fatalf("%#x is not before %#x", a, b)
		}
		if got := pdu.SNDiff(b, a); got != int32(d) {
			t.Fatalf("SNDiff = %d, want %d", got, d)
		}
	})
}

func TestOpcodeDirection(t *testing.T) {
	known := make(map[pdu.Opcode]bool)
	for _, op := range pdu.Opcodes {
		known[op] = true
	}
	for op := range pdu.Opcode(255) {
		if got, want := op.FromInitiator(), known[op] && op < 0x20; got != want {
			t.Errorf("%s.FromInitiator() = %t", op, got)
		}
		if got, want := op.FromTarget(), known[op] && op >= 0x20; got != want {
			t.Errorf("%s.FromTarget() = %t", op, got)
		}
		if strings.HasPrefix(op.String(), "Opcode(") == known[op] {
			t.Errorf("String() = %s", op)
		}
	}
}

func TestProtocolError(t *testing.T) {
	inner := errors.New("inner")
	err := fmt.Errorf("outer: %w", &pdu.ProtocolError{Reason: pdu.RejectInvalidPDUField, Err: inner})
	if !errors.Is(err, inner) {
		t.Error("Unwrap doesn't lead to the inner error")
	}
	if got, want := err.Error(), "outer: pdu: invalid PDU field: inner"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, want := (&pdu.ProtocolError{Reason: 0xee}).Error(), "pdu: RejectReason(0xee)"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
