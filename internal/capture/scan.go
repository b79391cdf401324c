package capture

import "bytes"

// maxName bounds the value that is kept of a key; iSCSI names have up to 223
// bytes (RFC 7143 4.2.7.1).
const maxName = 256

// scanner follows the text of the login in one direction, key=value pairs ended
// by a zero byte each (RFC 7143 6.1), which PDUs may cut anywhere.
type scanner struct {
	key, value []byte
	inValue    bool
	initiator  string
	target     string
}

// text looks at the next piece of the text. With blank it returns a copy in which
// CHAP responses are replaced: whoever has challenge and response can try
// passwords against them. Otherwise it returns b.
func (s *scanner) text(b []byte, blank bool) []byte {
	out := b
	for i, x := range b {
		switch {
		case x == 0:
			s.pair()
		case !s.inValue && x == '=':
			s.inValue = true
		case !s.inValue:
			s.key = keep(s.key, x)
		default:
			s.value = keep(s.value, x)
			// The prefix 0x or 0b stays, so that the value still reads as one.
			if blank && len(s.value) > 2 && string(s.key) == "CHAP_R" {
				if &out[0] == &b[0] {
					out = bytes.Clone(b)
				}
				out[i] = '0'
			}
		}
	}
	return out
}

func keep(b []byte, x byte) []byte {
	if len(b) < maxName {
		b = append(b, x)
	}
	return b
}

func (s *scanner) pair() {
	switch string(s.key) {
	case "InitiatorName":
		s.initiator = string(s.value)
	case "TargetName":
		s.target = string(s.value)
	}
	s.key, s.value, s.inValue = s.key[:0], s.value[:0], false
}
