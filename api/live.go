package api

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"
)

// Bounds of the time between documents in a stream of events.
const (
	liveDefault = 2 * time.Second
	liveMin     = time.Second
	liveMax     = heartbeat
)

// fresh is how old a document may be that was made for another stream. However
// many look, the daemon is asked about twice a second.
const fresh = 500 * time.Millisecond

// live makes the documents that a stream of events carries besides events.
type live struct {
	of map[string]func(context.Context) (any, error) // by name, which is the path below /v1/

	mu   sync.Mutex
	made map[string]snapshot
}

// snapshot is the answer to a GET, as JSON.
type snapshot struct {
	name string
	at   time.Time
	data []byte
}

func newLive(d Daemon) *live {
	return &live{made: make(map[string]snapshot), of: map[string]func(context.Context) (any, error){
		"status":   func(ctx context.Context) (any, error) { return d.Status(ctx) },
		"portals":  func(ctx context.Context) (any, error) { return d.Portals(ctx) },
		"targets":  func(ctx context.Context) (any, error) { return d.Targets(ctx) },
		"sessions": func(ctx context.Context) (any, error) { return d.Sessions(ctx) },
		"actors":   func(ctx context.Context) (any, error) { return d.Actors(ctx) },
	}}
}

// get returns a document that is fresh.
func (l *live) get(ctx context.Context, name string) (snapshot, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if d, ok := l.made[name]; ok && time.Since(d.at) < fresh {
		return d, nil
	}
	d := snapshot{name: name, at: time.Now()}
	v, err := l.of[name](ctx)
	if err == nil {
		d.data, err = json.Marshal(v)
	}
	if err == nil {
		l.made[name] = d
	}
	return d, err
}

// wanted reads what a stream shall carry from its query: with=status,targets and
// every=SECONDS. Without "with" it carries events only.
func (l *live) wanted(r *http.Request) (names []string, every time.Duration, err error) {
	every = liveDefault
	if s := r.URL.Query().Get("every"); s != "" {
		n, err := strconv.ParseFloat(s, 64)
		if inRange := n >= liveMin.Seconds() && n <= liveMax.Seconds(); err != nil || !inRange {
			return nil, 0, problemf(ErrInvalid, "every: %q is not a number of seconds from %g to %g", s, liveMin.Seconds(), liveMax.Seconds())
		}
		every = time.Duration(n * float64(time.Second))
	}
	for name := range strings.SplitSeq(r.URL.Query().Get("with"), ",") {
		switch {
		case name == "" || slices.Contains(names, name):
		case l.of[name] == nil:
			return nil, 0, problemf(ErrInvalid, "with: there is no document %q in a stream: take status, portals, targets, sessions or actors", name)
		default:
			names = append(names, name)
		}
	}
	return names, every, nil
}

// event is a document as a server-sent event. Its id is the time when it was made,
// in milliseconds since 1970: rates are differences of two documents.
func (d snapshot) event() string {
	return fmt.Sprintf("id: %d\nevent: %s\ndata: %s\n\n", d.at.UnixMilli(), d.name, d.data)
}
