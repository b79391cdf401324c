package actors

import (
	"maps"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/iserd/iserd/pdu"
)

// maxRefusals is how many different refusals are kept; quietTime is how long one
// that repeats is not logged again.
const (
	maxRefusals = 256
	quietTime   = 10 * time.Minute
)

// LoginRefusal is why somebody was not let in. Initiators repeat refused logins
// for ever, so equal ones are one record.
type LoginRefusal struct {
	Initiator string     // as claimed; "" when it was not told
	Address   netip.Addr // of the initiator
	Target    string     // "" in a discovery
	Discovery bool
	Portal    string // address that was connected to
	Status    pdu.LoginStatus
	Reason    string
	First     time.Time
	Last      time.Time
	Count     uint64
}

func (r *LoginRefusal) same(o *LoginRefusal) bool {
	return r.Initiator == o.Initiator && r.Address == o.Address && r.Target == o.Target &&
		r.Status == o.Status && r.Reason == o.Reason
}

// loginLog keeps the results of logins. All methods are safe for concurrent use.
type loginLog struct {
	mu      sync.Mutex
	results map[pdu.LoginStatus]uint64
	last    []LoginRefusal // the latest at the end
	subs    subscribers[LoginRefusal]
}

// admitted counts a login that went through.
func (l *loginLog) admitted() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(pdu.LoginSuccess)
}

// redirected counts a login that was sent elsewhere, which is no refusal.
func (l *loginLog) redirected(s pdu.LoginStatus) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.count(s)
}

func (l *loginLog) count(s pdu.LoginStatus) {
	if l.results == nil {
		l.results = make(map[pdu.LoginStatus]uint64)
	}
	l.results[s]++
}

// refused records r and reports whether it is worth a line in the log: the first
// of its kind, or again after a while.
func (l *loginLog) refused(r LoginRefusal) (news bool) {
	l.mu.Lock()
	l.count(r.Status)
	r.First, r.Count = r.Last, 1
	news = true
	if i := slices.IndexFunc(l.last, func(o LoginRefusal) bool { return o.same(&r) }); i >= 0 {
		old := l.last[i]
		r.First, r.Count = old.First, old.Count+1
		news = r.Last.Sub(old.Last) > quietTime
		l.last = slices.Delete(l.last, i, i+1)
	} else if len(l.last) == maxRefusals {
		l.last = slices.Delete(l.last, 0, 1)
	}
	l.last = append(l.last, r)
	l.mu.Unlock()
	l.subs.publish(r)
	return news
}

// refusals returns what is kept, the latest first.
func (l *loginLog) refusals() []LoginRefusal {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := slices.Clone(l.last)
	slices.Reverse(out)
	return out
}

// totals returns the number of logins by their result.
func (l *loginLog) totals() map[pdu.LoginStatus]uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	out := make(map[pdu.LoginStatus]uint64, len(l.results))
	maps.Copy(out, l.results)
	return out
}

// subscribers are functions that are called for each event. The zero value is
// ready.
type subscribers[T any] struct {
	mu   sync.Mutex
	next int
	fns  map[int]func(T)
}

func (s *subscribers[T]) add(f func(T)) (cancel func()) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.fns == nil {
		s.fns = make(map[int]func(T))
	}
	id := s.next
	s.next++
	s.fns[id] = f
	return func() {
		s.mu.Lock()
		defer s.mu.Unlock()
		delete(s.fns, id)
	}
}

func (s *subscribers[T]) publish(v T) {
	s.mu.Lock()
	fns := make([]func(T), 0, len(s.fns))
	for _, f := range s.fns {
		fns = append(fns, f)
	}
	s.mu.Unlock()
	for _, f := range fns {
		f(v)
	}
}
