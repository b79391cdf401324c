package chap

import "sync"

// Outstanding is the set of challenges that were issued and whose login has
// not ended: one set for all logins of a server. An initiator that sends one of
// them back as its own challenge asks us to compute the response that it owes
// (a reflection attack, possibly over a second connection): RFC 7143 §9.2.1
// wants that detected and the connection closed.
//
// The zero value is an empty set, ready to use, safe for concurrent use. It
// must not be copied after first use.
type Outstanding struct {
	mu  sync.Mutex
	set map[string]int
}

// Add puts a challenge into the set. It borrows challenge. Each Add is undone
// by one [Outstanding.Remove].
func (o *Outstanding) Add(challenge []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if o.set == nil {
		o.set = make(map[string]int)
	}
	o.set[string(challenge)]++
}

// Remove takes a challenge out of the set once its login has ended. A challenge
// that is not there is ignored. It borrows challenge.
func (o *Outstanding) Remove(challenge []byte) {
	o.mu.Lock()
	defer o.mu.Unlock()
	switch n := o.set[string(challenge)]; {
	case n > 1:
		o.set[string(challenge)] = n - 1
	case n == 1:
		delete(o.set, string(challenge))
	}
}

// Contains reports whether challenge is in the set. It borrows challenge.
func (o *Outstanding) Contains(challenge []byte) bool {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.set[string(challenge)] > 0
}

// Len returns the number of different challenges in the set.
func (o *Outstanding) Len() int {
	o.mu.Lock()
	defer o.mu.Unlock()
	return len(o.set)
}
