package scsi

import (
	"bytes"
	"testing"
)

func FuzzTransportID(f *testing.F) {
	f.Add(appendTransportID(nil, nexusID{"iqn.2024-01.org.example:a", [6]byte{0x40}, 1}))
	f.Add([]byte{0x05, 0, 0, 20, 'i', 'q', 'n', '.', 'a', 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(t *testing.T, b []byte) {
		id, n, ok := parseTransportID(b)
		if n > len(b) || ok && n < 24 {
			t.Fatalf("%d of %d bytes", n, len(b))
		}
		if !ok || id.anyPort {
			return
		}
		again := appendTransportID(nil, nexusID{id.name, id.isid, 0})
		id2, n2, ok := parseTransportID(again)
		if !ok || n2 != len(again) || id2 != id {
			t.Errorf("%+v, again %+v", id, id2)
		}
		for i := range again { // no strict prefix parses
			if _, n, _ := parseTransportID(again[:i]); n != 0 {
				t.Errorf("%d bytes of %d", i, len(again))
			}
		}
	})
}

func FuzzStoredReservations(f *testing.F) {
	s := &reservations{aptpl: true, typ: WriteExclusive, holder: nexusID{"a", [6]byte{1}, 1}, regs: []registrant{{nexusID{"a", [6]byte{1}, 1}, 7}}}
	good, err := s.encode()
	if err != nil {
		f.Fatal(err)
	}
	f.Add(good)
	f.Add([]byte(`{"version":1,"lost":true}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		s, err := decodeReservations(b)
		if err != nil {
			return
		}
		again, err := s.encode()
		if err != nil || !bytes.Equal(again, b) {
			t.Errorf("%q became %q, %v", b, again, err)
		}
	})
}
