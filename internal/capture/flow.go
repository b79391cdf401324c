package capture

import (
	"fmt"
	"net/netip"
	"time"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// Peers describes a connection.
type Peers struct {
	Initiator, Target netip.AddrPort
	ISER              bool
	// Fresh says that the flow sees the connection from its first PDU. Otherwise
	// Known is what the login has brought, and digests are left out throughout:
	// nobody could tell from the file that there are some.
	Fresh bool
	Known Known
}

// Known is what is known of a session.
type Known struct {
	TSIH           uint16
	InitiatorName  string
	TargetName     string // empty in a discovery session
	ISID           string
	Authentication string // CHAP user, or empty
}

func (k *Known) String() string {
	if k.InitiatorName == "" {
		return "not logged in"
	}
	s := fmt.Sprintf("session %#04x: %s", k.TSIH, k.InitiatorName)
	if k.ISID != "" {
		s += " isid " + k.ISID
	}
	if k.TargetName == "" {
		s += ", discovery"
	} else {
		s += " at " + k.TargetName
	}
	if k.Authentication != "" {
		s += ", CHAP user " + k.Authentication
	}
	return s
}

// verdict is what the filter says of a connection.
type verdict uint8

const (
	undecided verdict = iota // the names are not known yet
	wanted
	unwanted
)

// maxPending bounds what is kept of a connection until its names are known, in
// bytes.
const maxPending = 64 << 10

// Flow takes the PDUs of one connection, in the context of that connection. It
// implements iscsi.Tap.
type Flow struct {
	c       *Capture
	link    *link
	bare    bool // digests are left out
	verdict verdict
	tsih    uint16
	seq     [2]uint32 // next, by direction: 0 from the initiator, 1 from the target
	scans   [2]scanner
	pending []record
	bytes   int    // of pending
	begun   bool   // the first PDU was there
	note    string // of the beginning
	comment string // of the next PDU
}

var _ iscsi.Tap = (*Flow)(nil)

// Flow begins to record a connection. It returns nil when the filter does not
// want it.
func (c *Capture) Flow(p Peers) *Flow {
	f := &Flow{c: c, bare: !p.Fresh, link: &link{initiator: unmap(p.Initiator), target: unmap(p.Target)}}
	if p.ISER {
		f.link.iface = ifISER
	}
	switch k := &p.Known; {
	case c.o.any() || !p.Fresh && k.InitiatorName != "" && c.o.match(k.TSIH, k.InitiatorName, k.TargetName):
		f.verdict = wanted
	case !p.Fresh:
		return nil
	}
	if !p.Fresh {
		f.note = "already there when the capture began, digests left out; " + p.Known.String()
	}
	return f
}

// begin records a handshake, so that tools know where the connection begins. It
// comes with the first PDU: a connection that TCP hands over to iSER has none.
func (f *Flow) begin() {
	f.begun = true
	f.event(tcpSYN, false, f.note)
	f.seq[0]++
	f.event(tcpSYN|tcpACK, true, "")
	f.seq[1]++
	f.event(tcpACK, false, "")
}

// unmap gives both ends the same family.
func unmap(a netip.AddrPort) netip.AddrPort {
	if !a.IsValid() {
		return netip.AddrPortFrom(netip.IPv4Unspecified(), 0)
	}
	return netip.AddrPortFrom(a.Addr().Unmap().WithZone(""), a.Port())
}

// Describe notes what the login has brought, with the next PDU.
func (f *Flow) Describe(k *Known) { f.comment = k.String() }

// End notes the end of the connection.
func (f *Flow) End() {
	if f.begun {
		f.event(tcpFIN|tcpACK, true, "")
	}
	f.pending = nil
	f.verdict = unwanted
}

func side(out bool) int {
	if out {
		return 1
	}
	return 0
}

// event records a packet without a PDU.
func (f *Flow) event(flags uint8, out bool, comment string) {
	r := record{at: time.Now(), link: f.link, flags: flags, out: out, seq: f.seq[side(out)], comment: comment}
	if flags&tcpACK != 0 {
		r.ack = f.seq[side(!out)]
	}
	f.emit(r)
}

func (f *Flow) emit(r record) {
	switch f.verdict {
	case wanted:
		f.c.put(r)
	case undecided:
		if f.bytes += len(r.data); f.bytes > maxPending {
			f.verdict, f.pending = unwanted, nil
			return
		}
		f.pending = append(f.pending, r)
	default:
	}
}

// PDU implements iscsi.Tap: it borrows all its arguments.
func (f *Flow) PDU(h *pdu.BHS, ahs, data []byte, flags iscsi.TapFlags) {
	if f.verdict == unwanted || f.c.over.Load() {
		return
	}
	if !f.begun {
		f.begin()
	}
	out := flags&iscsi.TapOut != 0
	if f.bare {
		flags &^= iscsi.TapHeaderDigest | iscsi.TapDataDigest
	}
	length := pdu.BHSLen + len(ahs) + len(data) + pdu.Pad(len(data))
	if flags&iscsi.TapHeaderDigest != 0 {
		length += pdu.DigestLen
	}
	if flags&iscsi.TapDataDigest != 0 && len(data) > 0 {
		length += pdu.DigestLen
	}
	kept := length
	if f.c.o.Snaplen > 0 {
		kept = min(kept, f.c.o.Snaplen)
	}
	op := h.Opcode()
	login := op == pdu.OpLoginRequest || op == pdu.OpLoginResponse
	if login && len(data) > 0 {
		scan := &f.scans[side(out)]
		data = scan.text(data, !f.c.o.Secrets)
	}
	r := record{
		at: time.Now(), link: f.link, flags: tcpPSH | tcpACK, out: out,
		seq: f.seq[side(out)], ack: f.seq[side(!out)], length: length,
		data: assemble(kept, h, ahs, data, flags), comment: f.remark(flags),
	}
	f.seq[side(out)] += uint32(length)
	if f.verdict == undecided && op == pdu.OpLoginRequest {
		f.emit(r)
		var q pdu.LoginRequest
		if q.Decode(h) == nil && !q.Continue {
			f.tsih = q.TSIH
			f.decide()
		}
		return
	}
	f.emit(r)
}

// remark is the comment on a PDU.
func (f *Flow) remark(flags iscsi.TapFlags) string {
	s := f.comment
	f.comment = ""
	for _, x := range []struct {
		flag iscsi.TapFlags
		text string
	}{
		{iscsi.TapRDMA, "moved by RDMA, not sent as a PDU"},
		{iscsi.TapBadHeader, "header digest error: received like this"},
		{iscsi.TapBadData, "data digest error: received like this"},
	} {
		if flags&x.flag != 0 {
			if s != "" {
				s += "; "
			}
			s += x.text
		}
	}
	return s
}

// decide asks the filter once the first text of the initiator is through: it has
// the names (RFC 7143 6.3, 13.4, 13.5).
func (f *Flow) decide() {
	s := &f.scans[0]
	f.verdict = unwanted
	if f.c.o.match(f.tsih, s.initiator, s.target) {
		f.verdict = wanted
		for _, r := range f.pending {
			f.c.put(r)
		}
	}
	f.pending = nil
}

// assemble returns the first n bytes of a PDU as on the wire, RFC 7143 11.2.
func assemble(n int, h *pdu.BHS, ahs, data []byte, flags iscsi.TapFlags) []byte {
	b := make([]byte, 0, n)
	b = upTo(b, n, h[:])
	b = upTo(b, n, ahs)
	if flags&iscsi.TapHeaderDigest != 0 {
		crc := pdu.UpdateCRC32C(pdu.UpdateCRC32C(0, h[:]), ahs)
		b = digest(b, n, crc, flags&iscsi.TapBadHeader != 0)
	}
	if len(data) == 0 {
		return b
	}
	b = upTo(b, n, data)
	var zero [3]byte
	padding := zero[:pdu.Pad(len(data))]
	b = upTo(b, n, padding)
	if flags&iscsi.TapDataDigest != 0 && len(b) < n {
		crc := pdu.UpdateCRC32C(pdu.UpdateCRC32C(0, data), padding)
		b = digest(b, n, crc, flags&iscsi.TapBadData != 0)
	}
	return b
}

func upTo(b []byte, n int, more []byte) []byte { return append(b, more[:min(len(more), n-len(b))]...) }

// digest appends a digest, which is wrong where that of the PDU was.
func digest(b []byte, n int, crc uint32, bad bool) []byte {
	var d [pdu.DigestLen]byte
	if bad {
		crc = ^crc
	}
	pdu.PutDigest(d[:], crc)
	return upTo(b, n, d[:])
}
