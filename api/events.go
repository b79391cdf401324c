package api

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"time"
)

// eventQueue is how many events wait for a slow reader; what is more is lost to
// it, which it is told.
const eventQueue = 64

// heartbeat keeps proxies from closing a stream in which nothing happens.
const heartbeat = 15 * time.Second

// stuck is how long a reader may take no byte before its stream is closed.
const stuck = 30 * time.Second

// reader is one reader of the events.
type reader struct {
	w    http.ResponseWriter
	out  *http.ResponseController
	live *live
	with []string // documents
}

// events serves the events as they happen, as server-sent events, and the
// documents that were asked for now and then.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	names, every, err := s.live.wanted(r)
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	queue := make(chan Event, eventQueue)
	lost := make(chan struct{}, 1)
	cancel := s.d.Subscribe(func(e Event) {
		select {
		case queue <- e:
		default:
			select {
			case lost <- struct{}{}:
			default:
			}
		}
	})
	defer cancel()
	w.Header().Set("Content-Type", "text/event-stream")
	w.Header().Set("Cache-Control", "no-store")
	w.Header().Set("X-Accel-Buffering", "no") // nginx would keep events back
	t := &reader{w, http.NewResponseController(w), s.live, names}
	defer func() { _ = t.out.SetWriteDeadline(time.Time{}) }() // the connection may be used again
	if t.send(": iserd\n\n") == nil {
		_ = t.run(r.Context(), queue, lost, every) // the reader is gone
	}
}

func (t *reader) run(ctx context.Context, queue <-chan Event, lost <-chan struct{}, every time.Duration) error {
	if len(t.with) == 0 {
		every = heartbeat
	}
	tick := time.NewTicker(every)
	defer tick.Stop()
	err := t.documents(ctx)
	for err == nil {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case e := <-queue:
			err = t.send(fmt.Sprintf("event: %s\ndata: %s\n\n", e.Name, e.Data))
		case <-lost:
			err = t.send("event: lost\ndata: {}\n\n")
		case <-tick.C:
			if err = t.documents(ctx); len(t.with) == 0 {
				err = t.send(": \n\n")
			}
		}
	}
	return err
}

// documents sends each of them. One that cannot be made now ends the stream: the
// reader comes again, and must not take what is old for the present state.
func (t *reader) documents(ctx context.Context) error {
	for _, name := range t.with {
		d, err := t.live.get(ctx, name)
		if err != nil {
			return err
		}
		if err := t.send(d.event()); err != nil {
			return err
		}
	}
	return nil
}

func (t *reader) send(text string) error {
	_ = t.out.SetWriteDeadline(time.Now().Add(stuck)) // not every ResponseWriter has one
	if _, err := io.WriteString(t.w, text); err != nil {
		return err
	}
	return t.out.Flush()
}
