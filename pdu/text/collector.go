package text

import (
	"errors"
	"fmt"
)

// DefaultMax is the longest text that a Collector takes when it doesn't say
// otherwise: 64 KiB.
const DefaultMax = 64 << 10

// MaxSegments is the most PDUs that one text can come in. It is 64 KiB in data
// segments of 512 bytes, the smallest MaxRecvDataSegmentLength there is.
const MaxSegments = 128

// ErrIncomplete is the error of Pairs before the last PDU of the text is there.
var ErrIncomplete = errors.New("text: incomplete")

// Collector puts together the logical text data segment of a sequence of Login
// or Text PDUs, of which all but the last have the C bit set, RFC 7143 §6.1. A
// pair may go from one PDU into the next. The zero value is ready for use; it
// belongs to one goroutine.
type Collector struct {
	Max int // longest text in bytes; DefaultMax when zero

	buf      []byte
	segments int
	complete bool
}

// Add appends the data segment of one PDU, without padding. cont is its C bit.
// complete reports that the text ends here and Pairs can be called. Add after
// that starts the next text. It borrows data. The error wraps ErrTooLong for a
// text over Max and ErrTooMany for more than MaxSegments PDUs; the Collector is
// empty then.
func (c *Collector) Add(data []byte, cont bool) (complete bool, err error) {
	if c.complete {
		c.Reset()
	}
	limit := c.Max
	if limit == 0 {
		limit = DefaultMax
	}
	if n := len(c.buf) + len(data); n > limit {
		c.Reset()
		return false, fmt.Errorf("text: %d bytes where %d are allowed: %w", n, limit, ErrTooLong)
	}
	if c.segments == MaxSegments {
		c.Reset()
		return false, fmt.Errorf("text: more than %d PDUs: %w", MaxSegments, ErrTooMany)
	}
	c.buf = append(c.buf, data...)
	c.segments++
	c.complete = !cont
	return c.complete, nil
}

// Pending reports whether a text has begun and not ended: the answer to such a
// PDU has no text, RFC 7143 §11.10.2 and §11.12.2.
func (c *Collector) Pending() bool { return c.segments > 0 && !c.complete }

// Pairs returns the pairs of a complete text, as Parse does, and empties the
// Collector. Before that it returns ErrIncomplete and changes nothing.
func (c *Collector) Pairs() ([]Pair, error) {
	if !c.complete {
		return nil, ErrIncomplete
	}
	defer c.Reset()
	return Parse(c.buf)
}

// Reset empties the Collector and lets its memory go.
func (c *Collector) Reset() {
	c.buf, c.segments, c.complete = nil, 0, false
}
