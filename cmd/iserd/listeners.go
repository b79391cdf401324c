package main

import (
	"context"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

// partingTime is how long requests that are being answered have when their listener
// is closed by a reload, which may itself be one of them.
const partingTime = 5 * time.Second

// listeners offer the API, and can be changed while they do.
type listeners struct {
	d     api.Daemon
	log   hclog.Logger
	parts [consoleParts]*consoles
}

// consoleParts is how many parts of a configuration listen on their own: the
// socket, the remote console, and http.
const consoleParts = 3

// only is c with one of the parts.
func only(c *config.Config, part int) *config.Config {
	out := *c
	if part != 0 {
		out.Console.Listen = "off"
	}
	if part != 1 {
		out.Console.Remote = nil
	}
	if part != 2 {
		out.HTTP = nil
	}
	return &out
}

// openListeners offers d as c says.
func openListeners(d api.Daemon, c *config.Config, log hclog.Logger) (*listeners, error) {
	l := &listeners{d: d, log: log}
	for i := range l.parts {
		var err error
		if l.parts[i], err = openConsoles(d, only(c, i), log); err != nil {
			l.close()
			return nil, err
		}
	}
	return l, nil
}

func (l *listeners) close() {
	for _, p := range l.parts {
		if p != nil {
			p.close()
		}
	}
}

// change makes the listeners those of next in place of old's, or leaves all as it
// was.
func (l *listeners) change(old, next *config.Config) error {
	for i := range l.parts {
		err := l.changePart(i, old, next)
		if err == nil {
			continue
		}
		for j := range i {
			if err := l.changePart(j, next, old); err != nil {
				l.log.Error("the console cannot be put back", "reason", err)
			}
		}
		return err
	}
	return nil
}

// changePart closes a part that differs before it is opened again: its address may
// be the same.
func (l *listeners) changePart(i int, old, next *config.Config) (err error) {
	was, now := only(old, i), only(next, i)
	if !config.ConsoleDiffers(was, now) {
		return nil
	}
	l.parts[i].retire()
	if l.parts[i], err = openConsoles(l.d, now, l.log); err == nil {
		return nil
	}
	var again error
	if l.parts[i], again = openConsoles(l.d, was, l.log); again != nil {
		l.parts[i] = &consoles{}
		l.log.Error("the console cannot be put back", "reason", again)
	}
	return err
}

// retire closes the listeners at once, and the connections when what was asked is
// answered.
func (o *consoles) retire() {
	for i, s := range o.servers {
		_ = o.at[i].Close()
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), partingTime)
			defer cancel()
			if s.Shutdown(ctx) != nil {
				_ = s.Close()
			}
		}()
		<-o.ended[i]
	}
}
