package scsi

import (
	"sync"
	"sync/atomic"
)

// Task attributes of Command.Attr, with the numbers of RFC 7143 §11.3.1. A command
// without one (0) is SIMPLE.
const (
	AttrSimple      uint8 = 1
	AttrOrdered     uint8 = 2
	AttrHeadOfQueue uint8 = 3
)

// taskSet orders the commands of a logical unit by their task attributes, SAM-6 8.
// There is one for all I_T nexuses, as TST 000b of the Control mode page says.
//
// A SIMPLE command waits for the HEAD OF QUEUE commands and for the ORDERED ones
// that came before it; an ORDERED command for the HEAD OF QUEUE commands and for
// everything that came before it; a HEAD OF QUEUE command for nothing. What waits
// is dormant, the rest enabled. Reordering of SIMPLE commands is unrestricted.
//
// Almost always all commands are SIMPLE. They are only counted then: two atomic
// operations on a counter that few nexuses share, and a look at special.
type taskSet struct {
	special atomic.Int32 // ORDERED and HEAD OF QUEUE commands in the set
	simple  [taskShards]taskShard

	mu          sync.Mutex // guards what follows, and the links of listed commands
	heads       int        // HEAD OF QUEUE commands
	ordered     int        // ORDERED commands
	first, last *Command   // in order of arrival: what is neither counted nor a head
}

// taskShards is how many counters the nexuses of a logical unit share.
const taskShards = 16

// taskShard counts SIMPLE commands that came while special was zero. It fills a
// cache line.
type taskShard struct {
	n atomic.Int64
	_ [56]byte
}

// membership is how a command is in the task set.
type membership uint8

const (
	notIn   membership = iota
	counted            // in a taskShard; enabled
	listed             // in the list
	head               // HEAD OF QUEUE; enabled
)

// accept takes a command into the set. It returns false for a task attribute that
// there is not.
func (s *taskSet) accept(c *Command) bool {
	switch c.Attr {
	case 0, AttrSimple:
		n := &s.simple[c.Nexus.shard].n
		n.Add(1)
		if s.special.Load() == 0 {
			// Whoever raises special from here on sees the count.
			c.member = counted
			return true
		}
		s.mu.Lock()
		n.Add(-1)
		s.append(c)
		var ready readyList
		s.turn(&ready)
		s.mu.Unlock()
		ready.start()
	case AttrOrdered:
		s.mu.Lock()
		s.special.Add(1)
		s.ordered++
		s.append(c)
		s.mu.Unlock()
	case AttrHeadOfQueue:
		s.mu.Lock()
		s.special.Add(1)
		s.heads++
		s.mu.Unlock()
		c.member = head
	default:
		return false
	}
	return true
}

// append puts c at the end of the list; the caller holds mu.
func (s *taskSet) append(c *Command) {
	c.member, c.submitted = listed, false
	c.before, c.after = s.last, nil
	if s.last == nil {
		s.first = c
	} else {
		s.last.after = c
	}
	s.last = c
	if c.Attr == AttrOrdered {
		c.dormant = s.heads > 0 || s.first != c || !s.quiet()
	} else {
		c.dormant = s.heads > 0 || s.ordered > 0
	}
}

// quiet reports whether no counted command is in the set; the caller holds mu.
func (s *taskSet) quiet() bool {
	for i := range s.simple {
		if s.simple[i].n.Load() != 0 {
			return false
		}
	}
	return true
}

// leave takes a command that has ended out of the set, and starts those that
// waited for it.
func (s *taskSet) leave(c *Command) {
	m := c.member
	c.member = notIn
	if m == counted && (s.simple[c.Nexus.shard].n.Add(-1) != 0 || s.special.Load() == 0) {
		return
	}
	var ready readyList
	s.mu.Lock()
	switch m {
	case counted:
		s.turn(&ready)
	case head:
		s.heads--
		s.special.Add(-1)
		s.advance(&ready)
	default:
		s.remove(c, &ready)
	}
	s.mu.Unlock()
	ready.start()
}

// remove takes c out of the list; the caller holds mu.
func (s *taskSet) remove(c *Command, ready *readyList) {
	s.unlink(c)
	if c.Attr != AttrOrdered {
		s.turn(ready)
		return
	}
	s.ordered--
	s.special.Add(-1)
	s.advance(ready)
}

func (s *taskSet) unlink(c *Command) {
	if c.before == nil {
		s.first = c.after
	} else {
		c.before.after = c.after
	}
	if c.after == nil {
		s.last = c.before
	} else {
		c.after.before = c.before
	}
	c.before, c.after = nil, nil
}

// turn enables the command at the head of the list if that is an ORDERED one whose
// turn has come. The caller holds mu.
func (s *taskSet) turn(ready *readyList) {
	if c := s.first; c != nil && c.Attr == AttrOrdered && c.dormant && s.heads == 0 && s.quiet() {
		ready.enable(c)
	}
}

// advance enables what may be after an ORDERED or HEAD OF QUEUE command has gone:
// SIMPLE commands up to the first ORDERED one, or that one. The caller holds mu.
func (s *taskSet) advance(ready *readyList) {
	if s.heads > 0 {
		return
	}
	for c := s.first; c != nil && c.Attr != AttrOrdered; c = c.after {
		ready.enable(c)
	}
	s.turn(ready)
}

// readyList is commands that were dormant and are to be started, linked by next.
type readyList struct{ first, last *Command }

// enable makes c enabled, and takes it into the list if it waits for its start. The
// caller holds the mutex of the set.
func (l *readyList) enable(c *Command) {
	c.dormant = false
	if !c.submitted {
		return
	}
	c.submitted = false
	if l.last == nil {
		l.first = c
	} else {
		l.last.next = c
	}
	l.last = c
}

// start hands the commands to their workers.
func (l *readyList) start() {
	for c := l.first; c != nil; {
		next := c.next
		c.next = nil
		c.submitEnabled()
		c = next
	}
}

// waits reports whether a listed command is dormant. With submit it is started
// when its turn comes.
func (s *taskSet) waits(c *Command, submit bool) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if !c.dormant {
		return false
	}
	c.submitted = submit
	return true
}

// withdraw takes back that a dormant command is to be started, and reports whether
// it was to be.
func (s *taskSet) withdraw(c *Command) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	was := c.submitted
	c.submitted = false
	return was
}
