// Package hclogslog lets libraries that log with log/slog write to an
// hclog.Logger.
//
// Groups become dotted keys. The time of a record is not passed on: hclog
// stamps each line itself. Neither is the place in the source.
package hclogslog

import (
	"context"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// Handler is a slog.Handler that writes to an hclog.Logger.
type Handler struct {
	l      hclog.Logger
	infoAs hclog.Level
	prefix string // of keys: the open groups, each followed by a dot
}

// Option changes a Handler.
type Option func(*Handler)

// InfoAs has Info records written at level: what is news to a library is often
// of no interest to the operator.
func InfoAs(level hclog.Level) Option {
	return func(h *Handler) { h.infoAs = level }
}

// New returns a Handler for l.
func New(l hclog.Logger, opts ...Option) *Handler {
	h := &Handler{l: l, infoAs: hclog.Info}
	for _, o := range opts {
		o(h)
	}
	return h
}

// level maps l to the hclog level at or below it.
func (h *Handler) level(l slog.Level) hclog.Level {
	switch {
	case l < slog.LevelDebug:
		return hclog.Trace
	case l < slog.LevelInfo:
		return hclog.Debug
	case l < slog.LevelWarn:
		return h.infoAs
	case l < slog.LevelError:
		return hclog.Warn
	}
	return hclog.Error
}

// Enabled reports whether the logger writes records of level.
func (h *Handler) Enabled(_ context.Context, level slog.Level) bool {
	// Not GetLevel: that of the null logger is below all others.
	switch h.level(level) {
	case hclog.Trace:
		return h.l.IsTrace()
	case hclog.Debug:
		return h.l.IsDebug()
	case hclog.Info:
		return h.l.IsInfo()
	case hclog.Warn:
		return h.l.IsWarn()
	}
	return h.l.IsError()
}

// Handle writes r.
func (h *Handler) Handle(_ context.Context, r slog.Record) error {
	args := make([]any, 0, 2*r.NumAttrs())
	r.Attrs(func(a slog.Attr) bool {
		args = appendAttr(args, h.prefix, a)
		return true
	})
	h.l.Log(h.level(r.Level), r.Message, args...)
	return nil
}

// WithAttrs returns a Handler that adds attrs to each record.
func (h *Handler) WithAttrs(attrs []slog.Attr) slog.Handler {
	var args []any
	for _, a := range attrs {
		args = appendAttr(args, h.prefix, a)
	}
	if len(args) == 0 {
		return h
	}
	c := *h
	c.l = h.l.With(args...)
	return &c
}

// WithGroup returns a Handler that puts "name." before the keys to come.
func (h *Handler) WithGroup(name string) slog.Handler {
	if name == "" {
		return h
	}
	c := *h
	c.prefix += name + "."
	return &c
}

// appendAttr appends a's key and value, or those of its members if it is a
// group. As slog demands, empty attributes and groups vanish and a group
// without a key is inlined.
func appendAttr(args []any, prefix string, a slog.Attr) []any {
	v := a.Value.Resolve()
	if a.Key == "" && v.Equal(slog.Value{}) {
		return args
	}
	if v.Kind() != slog.KindGroup {
		return append(args, prefix+a.Key, v.Any())
	}
	if a.Key != "" {
		prefix += a.Key + "."
	}
	for _, m := range v.Group() {
		args = appendAttr(args, prefix, m)
	}
	return args
}
