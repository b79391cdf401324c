package pdu_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/google/go-cmp/cmp"
	"pgregory.net/rapid"

	"github.com/iserd/iserd/pdu"
)

// widths is how many values the types have that take part of a byte.
var widths = map[reflect.Type]int{
	reflect.TypeFor[pdu.TaskAttr]():     1 << 3,
	reflect.TypeFor[pdu.TMFunction]():   1 << 7,
	reflect.TypeFor[pdu.Stage]():        1 << 2,
	reflect.TypeFor[pdu.LogoutReason](): 1 << 7,
	reflect.TypeFor[pdu.SNACKType]():    1 << 4,
}

// fill sets all fields of m to random values that the wire can carry.
func fill(t *rapid.T, m pdu.Message) {
	v := reflect.ValueOf(m).Elem()
	for i := range v.NumField() {
		f, name := v.Field(i), v.Type().Field(i).Name
		switch f.Kind() {
		case reflect.Bool:
			f.SetBool(rapid.Bool().Draw(t, name))
		case reflect.Uint8:
			n, ok := widths[f.Type()]
			if !ok {
				n = 1 << 8
			}
			f.SetUint(uint64(rapid.IntRange(0, n-1).Draw(t, name)))
		case reflect.Uint16:
			f.SetUint(uint64(rapid.Uint16().Draw(t, name)))
		case reflect.Uint32:
			f.SetUint(uint64(rapid.Uint32().Draw(t, name)))
		case reflect.Uint64:
			f.SetUint(rapid.Uint64().Draw(t, name))
		case reflect.Int:
			n := rapid.IntRange(0, pdu.MaxDataSegmentLength).Draw(t, name)
			if name == "AHSLen" {
				n = n % 256 * 4
			}
			f.SetInt(int64(n))
		case reflect.Array:
			for j := range f.Len() {
				f.Index(j).SetUint(uint64(rapid.Byte().Draw(t, name)))
			}
		default:
			t.Fatalf("%T.%s has a kind this test doesn't know", m, name)
		}
	}
}

func TestRoundTrip(t *testing.T) {
	for _, op := range pdu.Opcodes {
		t.Run(op.String(), func(t *testing.T) {
			rapid.Check(t, func(t *rapid.T) {
				want, got := pdu.New(op), pdu.New(op)
				fill(t, want)
				var h pdu.BHS
				want.Encode(&h)
				if h.Opcode() != op {
					t.Fatalf("opcode %s", h.Opcode())
				}
				if h[0]&0x80 != 0 {
					t.Fatalf("byte 0 is %#02x: the top bit is reserved", h[0])
				}
				fill(t, got) // Decode must overwrite all of it
				if err := got.Decode(&h); err != nil {
					t.Fatal(err)
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Fatalf("(-want +got):\n%s", diff)
				}
			})
		})
	}
}

// TestDecodeWrongOpcode checks that a failed Decode leaves its receiver alone.
func TestDecodeWrongOpcode(t *testing.T) {
	for _, op := range pdu.Opcodes {
		t.Run(op.String(), func(t *testing.T) {
			other := pdu.OpReject
			if op == other {
				other = pdu.OpR2T
			}
			var h pdu.BHS
			for i := range h {
				h[i] = 0xff
			}
			h.SetOpcode(other)
			m := pdu.New(op)
			err := m.Decode(&h)
			var pe *pdu.ProtocolError
			if !errors.As(err, &pe) || pe.Reason != pdu.RejectProtocolError {
				t.Fatalf("error %v, want a protocol error", err)
			}
			if diff := cmp.Diff(pdu.New(op), m); diff != "" {
				t.Fatalf("receiver changed (-want +got):\n%s", diff)
			}
		})
	}
}

func TestDecodeUnknownOpcode(t *testing.T) {
	known := make(map[pdu.Opcode]bool)
	for _, op := range pdu.Opcodes {
		known[op] = true
	}
	for op := range pdu.Opcode(64) {
		var h pdu.BHS
		h.SetOpcode(op)
		m, err := pdu.Decode(&h)
		if known[op] {
			if err != nil || m.Opcode() != op {
				t.Errorf("%s: message %v, error %v", op, m, err)
			}
			continue
		}
		var pe *pdu.ProtocolError
		if m != nil || !errors.As(err, &pe) || pe.Reason != pdu.RejectCommandNotSupported {
			t.Errorf("%s: message %v, error %v", op, m, err)
		}
	}
}

func FuzzBHSDecode(f *testing.F) {
	for _, g := range append(requests(), responses()...) {
		var h pdu.BHS
		g.msg.Encode(&h)
		f.Add(h[:])
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		var h, again pdu.BHS
		copy(h[:], b)
		_ = h.String()
		if n := h.Length(true, true); n < pdu.BHSLen+pdu.DigestLen || n%4 != 0 {
			t.Fatalf("Length %d", n)
		}
		first, err := pdu.Decode(&h)
		if err != nil {
			return
		}
		first.Encode(&again)
		second, err := pdu.Decode(&again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatalf("no fixpoint (-first +second):\n%s", diff)
		}
	})
}

// codec is one pass through a message: hot paths must not allocate in it.
func codec(enc, dec pdu.Message) func() {
	h := new(pdu.BHS)
	return func() {
		enc.Encode(h)
		if err := dec.Decode(h); err != nil {
			panic(err)
		}
	}
}

func TestCodecAllocs(t *testing.T) {
	for _, op := range pdu.Opcodes {
		t.Run(op.String(), func(t *testing.T) {
			if n := testing.AllocsPerRun(100, codec(pdu.New(op), pdu.New(op))); n != 0 {
				t.Errorf("%v allocations", n)
			}
		})
	}
}

// TestStackAllocs uses the structs as the hot path does: as values in a
// function, which must stay there.
func TestStackAllocs(t *testing.T) {
	var h pdu.BHS
	(&pdu.SCSICommand{Read: true, InitiatorTaskTag: 1}).Encode(&h)
	n := testing.AllocsPerRun(100, func() {
		var c pdu.SCSICommand
		if err := c.Decode(&h); err != nil {
			t.Fatal(err)
		}
		var out pdu.BHS
		d := pdu.DataIn{InitiatorTaskTag: c.InitiatorTaskTag, Final: true}
		d.Encode(&out)
		r := pdu.R2T{InitiatorTaskTag: c.InitiatorTaskTag}
		r.Encode(&out)
		s := pdu.SCSIResponse{InitiatorTaskTag: c.InitiatorTaskTag}
		s.Encode(&out)
	})
	if n != 0 {
		t.Errorf("%v allocations", n)
	}
}

func BenchmarkSCSICommandDecode(b *testing.B) {
	var h pdu.BHS
	(&pdu.SCSICommand{Read: true, InitiatorTaskTag: 1}).Encode(&h)
	b.ReportAllocs()
	for b.Loop() {
		var c pdu.SCSICommand
		if err := c.Decode(&h); err != nil {
			b.Fatal(err)
		}
	}
}

func BenchmarkDataInEncode(b *testing.B) {
	var h pdu.BHS
	b.ReportAllocs()
	for b.Loop() {
		d := pdu.DataIn{Final: true, HasStatus: true, InitiatorTaskTag: 1, DataLen: 4096}
		d.Encode(&h)
	}
}
