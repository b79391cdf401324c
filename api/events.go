package api

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net/http"
	"strings"
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
	last uint64   // number of the last event that was sent, or is not wanted
}

// events serves the events as they happen, as server-sent events, and the
// documents that were asked for now and then: with kept=true the events before
// too, with follow=false only those.
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
	t := &reader{w: w, out: http.NewResponseController(w), live: s.live, with: names}
	defer func() { _ = t.out.SetWriteDeadline(time.Time{}) }() // the connection may be used again
	if q := r.URL.Query(); t.send(": iserd\n\n") == nil && (q.Get("kept") != "true" || t.replay(s.d.KeptEvents()) == nil) && q.Get("follow") != "false" {
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
			if t.last == 0 || e.Seq > t.last {
				err = t.event(&e)
			}
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

// replay sends events that have happened before.
func (t *reader) replay(all []Event) error {
	for i := range all {
		if err := t.event(&all[i]); err != nil {
			return err
		}
		t.last = all[i].Seq
	}
	return nil
}

func (t *reader) event(e *Event) error {
	return t.send(fmt.Sprintf("event: %s\ndata: %s\n\n", e.Name, e.Data))
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

// EventOptions say which events a client wants.
type EventOptions struct {
	Kept   bool // those that have happened
	Follow bool // those that happen, until the context ends
}

// Events calls f for each event until ctx ends, the daemon does, or there are no
// more of those that were asked for.
func (c *Client) Events(ctx context.Context, o EventOptions, f func(Event)) error {
	body, err := c.stream(ctx, fmt.Sprintf("/v1/events?kept=%v&follow=%v", o.Kept, o.Follow))
	if err != nil {
		return err
	}
	defer body.Close()
	var e Event
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		switch name, value, _ := strings.Cut(lines.Text(), ": "); name {
		case "event":
			e.Name = value
		case "data":
			e.Data = []byte(value)
		case "":
			if value == "" && e.Name != "" {
				f(e)
				e = Event{}
			}
		}
	}
	return lines.Err()
}
