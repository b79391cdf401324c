package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/api"
)

// maxEvents is how many events are kept.
const maxEvents = 256

// eventLog keeps the latest events and tells those that want to know. The zero
// value is empty.
type eventLog struct {
	mu   sync.Mutex
	seq  uint64
	kept []api.Event
	subs map[int]func(api.Event)
	next int
}

// publish notes an event, whose record is v.
func (l *eventLog) publish(name string, v any) {
	b, err := json.Marshal(v)
	if err != nil {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.seq++
	e := api.Event{Seq: l.seq, Name: name, Data: b}
	if l.kept = append(l.kept, e); len(l.kept) > maxEvents {
		l.kept = slices.Delete(l.kept, 0, len(l.kept)-maxEvents)
	}
	for _, f := range l.subs {
		f(e)
	}
}

// Subscribe implements api.Daemon.
func (a *admin) Subscribe(f func(api.Event)) (cancel func()) {
	l := &a.events
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.subs == nil {
		l.subs = make(map[int]func(api.Event))
	}
	id := l.next
	l.next++
	l.subs[id] = f
	return func() {
		l.mu.Lock()
		defer l.mu.Unlock()
		delete(l.subs, id)
	}
}

// KeptEvents implements api.Daemon.
func (a *admin) KeptEvents() []api.Event {
	a.events.mu.Lock()
	defer a.events.mu.Unlock()
	return slices.Clone(a.events.kept)
}

func newEvents() *cobra.Command {
	c := &link{}
	var watch bool
	cmd := c.flags(&cobra.Command{
		Use: "events", Short: "Show faults, refused logins and reloads", Args: cobra.NoArgs,
		Long: `Events shows what has happened lately: actors that crashed and what their
supervisors did, logins that were refused, and changes of the configuration. With
--watch it goes on with what happens, until it is interrupted.

"iserd actors faults" has the faults alone, with their stacks; "iserd logins" adds
up refused logins that are alike.`,
		Example: `  iserd events
  iserd events -w -o json   # one object in each line`,
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		if watch {
			c.timeout = 0
		}
		return c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			ctx, stop := interruptible(ctx)
			defer stop()
			err := cl.Events(ctx, api.EventOptions{Kept: true, Follow: watch}, func(e api.Event) { c.eventLine(w, &e) })
			if ctx.Err() != nil {
				return nil
			}
			return err
		})(cmd, args)
	}
	cmd.Flags().BoolVarP(&watch, "watch", "w", false, "go on with what happens")
	return cmd
}

// eventLine prints one event.
func (c *link) eventLine(w io.Writer, e *api.Event) {
	if c.output == "json" {
		_ = json.NewEncoder(w).Encode(map[string]any{"event": e.Name, "data": json.RawMessage(e.Data)}) // the command's output reports its own errors
		return
	}
	at, text := eventText(e)
	when := "-"
	if !at.IsZero() {
		when = at.Local().Format(time.DateTime)
	}
	fmt.Fprintf(w, "%-19s  %-8s  %s\n", when, e.Name, visible(text))
}

// eventText says what has happened, in one line.
func eventText(e *api.Event) (at time.Time, text string) {
	switch e.Name {
	case "fault":
		var f api.Fault
		if json.Unmarshal(e.Data, &f) == nil {
			text = fmt.Sprintf("%s panicked on %s: %s; %s", f.Path, messageName(f.Message), firstLine(f.Panic), f.Action)
			if f.Backoff > 0 {
				text += fmt.Sprintf(" after %v", time.Duration(f.Backoff*float64(time.Second)).Round(time.Millisecond))
			}
			return f.Time, text
		}
	case "refusal":
		var r api.Refusal
		if json.Unmarshal(e.Data, &r) == nil {
			return r.Last, fmt.Sprintf("%s from %s: %s", orDash(r.Initiator), r.Address, r.Reason)
		}
	case "config":
		var x api.ConfigEvent
		if json.Unmarshal(e.Data, &x) == nil && x.Error != "" {
			return x.Time, "not applied, the old one stays in force: " + firstLine(x.Error)
		} else if x.Changes == 0 {
			return x.Time, "reloaded, nothing has changed"
		}
		return x.Time, "applied: " + count(x.Changes, "change")
	case "lost":
		return at, "events are missing: they came too fast"
	}
	return at, strings.TrimSpace(string(e.Data))
}
