package initiator

import (
	"github.com/iserd/iserd/pdu"
)

// rxPDU is one received PDU of a pipeline. Data-In payload is not in it: it
// was put where it belongs while it came.
type rxPDU struct {
	h      pdu.BHS
	data   []byte // of all but Data-In; valid until the next call of next
	dataIn pdu.DataIn
	io     *IO // of a Data-In
}

// rxStream cuts the received bytes into PDUs. Only headers have to be in the
// buffer as a whole; payload of Data-In streams through it.
type rxStream struct {
	buf  []byte
	r, w int

	headerDigest, dataDigest bool
	maxRecv                  int

	cur     rxPDU
	inData  bool   // a payload is being received
	left    int    // bytes of payload and padding still to come
	digest  bool   // then 4 bytes of data digest
	payload int    // of left: bytes that are not padding
	dst     []byte // where payload goes; nil: nowhere
	crc     uint32
	small   []byte // payload of PDUs other than Data-In
}

// rxBufferLen is large enough for the answers to a deep queue of small reads
// and small enough to stay in a core's L2 cache.
const rxBufferLen = 256 << 10

func newRxStream(headerDigest, dataDigest bool, maxRecv int) rxStream {
	return rxStream{
		buf: make([]byte, rxBufferLen), headerDigest: headerDigest, dataDigest: dataDigest, maxRecv: maxRecv,
	}
}

func (s *rxStream) preload(b []byte) { s.w = copy(s.buf, b) }

// space returns where the next received bytes go.
func (s *rxStream) space() []byte {
	if s.r == s.w {
		s.r, s.w = 0, 0
	} else if len(s.buf)-s.w < pdu.BHSLen+pdu.DigestLen {
		s.w = copy(s.buf, s.buf[s.r:s.w])
		s.r = 0
	}
	return s.buf[s.w:]
}

// next returns the next complete PDU, or nil when more bytes are needed.
func (s *rxStream) next(p *Pipeline) (*rxPDU, error) {
	if !s.inData {
		ok, err := s.header(p)
		if err != nil || !ok {
			return nil, err
		}
	}
	done, err := s.body()
	if err != nil || !done {
		return nil, err
	}
	s.inData = false
	return &s.cur, nil
}

// header takes a header from the buffer and sets up the payload's way.
func (s *rxStream) header(p *Pipeline) (bool, error) {
	need := pdu.BHSLen
	if s.headerDigest {
		need += pdu.DigestLen
	}
	if s.w-s.r < need {
		return false, nil
	}
	c := &s.cur
	copy(c.h[:], s.buf[s.r:])
	if s.headerDigest && !digestIs([pdu.DigestLen]byte(s.buf[s.r+pdu.BHSLen:]), pdu.UpdateCRC32C(0, c.h[:])) {
		return false, ErrHeaderDigest
	}
	s.r += need
	if c.h.TotalAHSLength() != 0 {
		return false, violation("%v with AHS", c.h.Opcode())
	}
	n := c.h.DataSegmentLength()
	if n > s.maxRecv {
		return false, ErrTooLong
	}
	s.inData, s.payload, s.left = true, n, n+pdu.Pad(n)
	s.digest, s.crc = s.dataDigest && n > 0, 0
	c.data, c.io = nil, nil
	if c.h.Opcode() == pdu.OpDataIn {
		return true, s.dataInHeader(p)
	}
	if cap(s.small) < n {
		s.small = make([]byte, n)
	}
	s.dst = s.small[:n]
	c.data = s.dst
	return true, nil
}

// dataInHeader checks a Data-In's place in its command.
func (s *rxStream) dataInHeader(p *Pipeline) error {
	c := &s.cur
	if err := c.dataIn.Decode(&c.h); err != nil {
		return err
	}
	io := p.slotOf(c.dataIn.InitiatorTaskTag)
	if io == nil || io.Write {
		return violation("Data-In for unknown InitiatorTaskTag %#x", c.dataIn.InitiatorTaskTag)
	}
	if c.dataIn.DataSN != io.dataSN || int64(c.dataIn.BufferOffset) != int64(io.Received) || io.Received+s.payload > io.Length {
		return violation("Data-In %d at %d (%d bytes), expected %d at %d of %d",
			c.dataIn.DataSN, c.dataIn.BufferOffset, s.payload, io.dataSN, io.Received, io.Length)
	}
	c.io, s.dst = io, nil
	if io.Data != nil {
		s.dst = io.Data[io.Received:][:s.payload]
	}
	io.dataSN++
	io.Received += s.payload
	return nil
}

// body takes payload, padding and data digest from the buffer.
func (s *rxStream) body() (bool, error) {
	n := min(s.left, s.w-s.r)
	if n > 0 {
		b := s.buf[s.r : s.r+n]
		if s.dataDigest {
			s.crc = pdu.UpdateCRC32C(s.crc, b)
		}
		k := min(n, s.payload)
		if s.dst != nil {
			copy(s.dst, b[:k])
			s.dst = s.dst[k:]
		}
		s.payload -= k
		s.left -= n
		s.r += n
	}
	if s.left > 0 {
		return false, nil
	}
	if !s.digest {
		return true, nil
	}
	if s.w-s.r < pdu.DigestLen {
		return false, nil
	}
	if !digestIs([pdu.DigestLen]byte(s.buf[s.r:]), s.crc) {
		return false, ErrDataDigest
	}
	s.r += pdu.DigestLen
	return true, nil
}
