package runtime

// maxKept is the capacity, in messages, that an empty queue keeps: a burst must
// not hold its memory for ever.
const maxKept = 1024

// queue is a first-in first-out list that allocates only to grow.
type queue struct {
	buf  []any
	head int
}

func (q *queue) len() int { return len(q.buf) - q.head }

func (q *queue) push(x any) {
	// Room at the front is used up before the slice grows; at least half of it
	// is free then, so a push costs O(1) on average.
	if len(q.buf) == cap(q.buf) && q.head > len(q.buf)/2 {
		n := copy(q.buf, q.buf[q.head:])
		clear(q.buf[n:])
		q.buf, q.head = q.buf[:n], 0
	}
	q.buf = append(q.buf, x)
}

// pop removes the oldest element; the queue must not be empty.
func (q *queue) pop() any {
	x := q.buf[q.head]
	q.buf[q.head] = nil // the queue must not keep the message alive
	q.head++
	if q.head < len(q.buf) {
		return x
	}
	q.buf, q.head = q.buf[:0], 0
	if cap(q.buf) > maxKept {
		q.buf = nil
	}
	return x
}

// take empties the queue and returns what was in it, oldest first.
func (q *queue) take() []any {
	x := q.buf[q.head:]
	*q = queue{}
	return x
}
