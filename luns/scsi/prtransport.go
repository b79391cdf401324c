package scsi

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"strings"
)

// iSCSI TransportIDs, SPC-5 7.6.4.7. Byte 0 has the FORMAT CODE in bits 7 and 6
// and the PROTOCOL IDENTIFIER 5h.
const (
	transportIDDevice = 0x05 // format 00b: the iSCSI name alone
	transportIDPort   = 0x45 // format 01b: the name, ",i,0x" and the ISID
	transportIDHead   = 4
	isidSeparator     = ",i,0x"
)

// transportID is a decoded TransportID: an initiator port, or with anyPort every
// port of an initiator device.
type transportID struct {
	name    string
	isid    [6]byte
	anyPort bool
}

// appendTransportID appends the TransportID of the initiator port of id: a
// string with a terminating NUL, filled up to a multiple of four bytes.
func appendTransportID(b []byte, id nexusID) []byte {
	n := (len(id.name) + len(isidSeparator) + 2*len(id.isid) + 4) &^ 3
	n = max(n, 20) // ADDITIONAL LENGTH is at least 20
	b = append(b, transportIDPort, 0)
	b = binary.BigEndian.AppendUint16(b, uint16(n))
	end := len(b) + n
	b = append(b, id.name...)
	b = append(b, isidSeparator...)
	b = hex.AppendEncode(b, id.isid[:])
	return zeros(b, end-len(b))
}

// parseTransportID decodes the TransportID at the head of b and returns its
// length. ok is false for other protocols and for what is malformed; n is 0 if
// b is too short for it.
func parseTransportID(b []byte) (t transportID, n int, ok bool) {
	if len(b) < transportIDHead {
		return t, 0, false
	}
	n = transportIDHead + int(binary.BigEndian.Uint16(b[2:]))
	if n > len(b) {
		return t, 0, false
	}
	if n < 24 || n%4 != 0 || b[0] != transportIDDevice && b[0] != transportIDPort {
		return t, n, false
	}
	text, _, terminated := bytes.Cut(b[transportIDHead:n], []byte{0})
	if !terminated {
		return t, n, false
	}
	name := strings.ToLower(string(text))
	if b[0] == transportIDPort {
		var isid string
		name, isid, ok = strings.Cut(name, isidSeparator)
		raw, err := hex.DecodeString(isid)
		if !ok || err != nil || len(raw) != len(t.isid) {
			return t, n, false
		}
		t.isid = [6]byte(raw)
	}
	if name == "" || len(name) > maxNameLen || strings.Contains(name, ",") {
		return t, n, false
	}
	t.name, t.anyPort = name, b[0] == transportIDDevice
	return t, n, true
}
