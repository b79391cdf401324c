package hclogslog

import (
	"context"
	"io"
	"log/slog"

	"github.com/hashicorp/go-hclog"
)

// ToHCLog returns an hclog.Logger that writes to l: the logger behind l when l
// was made by New, else one that hands its records over.
func ToHCLog(l *slog.Logger) hclog.Logger {
	if h, ok := l.Handler().(*Handler); ok && h.prefix == "" {
		return h.l
	}
	// The intercepting logger itself writes nothing; its sink gets it all.
	out := hclog.NewInterceptLogger(&hclog.LoggerOptions{Output: io.Discard, Level: hclog.Off})
	out.RegisterSink(sink{l})
	return out
}

type sink struct{ l *slog.Logger }

// Accept implements hclog.SinkAdapter.
func (s sink) Accept(name string, level hclog.Level, msg string, args ...any) {
	l := s.l
	if name != "" {
		l = l.With("logger", name)
	}
	l.Log(context.Background(), toSlog(level), msg, args...)
}

func toSlog(l hclog.Level) slog.Level {
	switch l {
	case hclog.Trace:
		return slog.LevelDebug - 4
	case hclog.Debug:
		return slog.LevelDebug
	case hclog.Warn:
		return slog.LevelWarn
	case hclog.Error:
		return slog.LevelError
	default:
		return slog.LevelInfo
	}
}
