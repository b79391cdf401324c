package api

import (
	"fmt"
	"net/http"
	"time"
)

// eventQueue is how many events wait for a slow reader; what is more is lost to
// it, which it is told.
const eventQueue = 64

// heartbeat keeps proxies from closing a stream in which nothing happens.
const heartbeat = 15 * time.Second

// events serves the events as they happen, as server-sent events.
func (s *server) events(w http.ResponseWriter, r *http.Request) {
	out := http.NewResponseController(w)
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
	fmt.Fprint(w, ": iserd\n\n")
	if out.Flush() != nil {
		return
	}
	beat := time.NewTicker(heartbeat)
	defer beat.Stop()
	for {
		var err error
		select {
		case <-r.Context().Done():
			return
		case e := <-queue:
			_, err = fmt.Fprintf(w, "event: %s\ndata: %s\n\n", e.Name, e.Data)
		case <-lost:
			_, err = fmt.Fprint(w, "event: lost\ndata: {}\n\n")
		case <-beat.C:
			_, err = fmt.Fprint(w, ": \n\n")
		}
		if err != nil || out.Flush() != nil {
			return
		}
	}
}
