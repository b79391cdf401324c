package hclogslog_test

import (
	"bytes"
	"context"
	"encoding/json"
	"log/slog"
	"strings"
	"testing"
	"testing/slogtest"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/internal/hclogslog"
)

// nest turns a line of hclog's JSON into what slogtest expects: its names for
// the standard keys, and dotted keys as groups.
func nest(t *testing.T, line []byte) map[string]any {
	t.Helper()
	var flat map[string]any
	if err := json.Unmarshal(line, &flat); err != nil {
		t.Fatalf("%v in %q", err, line)
	}
	std := map[string]string{"@timestamp": slog.TimeKey, "@level": slog.LevelKey, "@message": slog.MessageKey}
	out := map[string]any{}
	for k, v := range flat {
		if s, ok := std[k]; ok {
			out[s] = v
			continue
		}
		m := out
		parts := strings.Split(k, ".")
		for _, p := range parts[:len(parts)-1] {
			if m[p] == nil {
				m[p] = map[string]any{}
			}
			m = m[p].(map[string]any)
		}
		m[parts[len(parts)-1]] = v
	}
	return out
}

func TestSlogtest(t *testing.T) {
	var buf bytes.Buffer
	newHandler := func(t *testing.T) slog.Handler {
		buf.Reset()
		return hclogslog.New(hclog.New(&hclog.LoggerOptions{Output: &buf, JSONFormat: true}))
	}
	result := func(t *testing.T) map[string]any {
		m := nest(t, buf.Bytes())
		if strings.HasSuffix(t.Name(), "/zero-time") {
			delete(m, slog.TimeKey) // hclog stamps every line itself
		}
		return m
	}
	slogtest.Run(t, newHandler, result)
}

func TestLevels(t *testing.T) {
	tests := []struct {
		name  string
		level slog.Level
		opts  []hclogslog.Option
		want  string
	}{
		{"below debug", slog.LevelDebug - 1, nil, "trace"},
		{"debug", slog.LevelDebug, nil, "debug"},
		{"info", slog.LevelInfo, nil, "info"},
		{"between info and warn", slog.LevelInfo + 2, nil, "info"},
		{"warn", slog.LevelWarn, nil, "warn"},
		{"error", slog.LevelError, nil, "error"},
		{"above error", slog.LevelError + 4, nil, "error"},
		{"info as debug", slog.LevelInfo, []hclogslog.Option{hclogslog.InfoAs(hclog.Debug)}, "debug"},
		{"error stays", slog.LevelError, []hclogslog.Option{hclogslog.InfoAs(hclog.Debug)}, "error"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var buf bytes.Buffer
			l := hclog.New(&hclog.LoggerOptions{Output: &buf, JSONFormat: true, Level: hclog.Trace})
			slog.New(hclogslog.New(l, tt.opts...)).Log(context.Background(), tt.level, "m")
			if got := nest(t, buf.Bytes())[slog.LevelKey]; got != tt.want {
				t.Errorf("level %v, want %v", got, tt.want)
			}
		})
	}
}

func TestEnabled(t *testing.T) {
	h := hclogslog.New(hclog.New(&hclog.LoggerOptions{Level: hclog.Warn}), hclogslog.InfoAs(hclog.Debug))
	got := map[slog.Level]bool{}
	for _, l := range []slog.Level{slog.LevelDebug, slog.LevelInfo, slog.LevelWarn, slog.LevelError} {
		got[l] = h.Enabled(context.Background(), l)
	}
	want := map[slog.Level]bool{slog.LevelDebug: false, slog.LevelInfo: false, slog.LevelWarn: true, slog.LevelError: true}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if hclogslog.New(hclog.NewNullLogger()).Enabled(context.Background(), slog.LevelError) {
		t.Error("the null logger is enabled")
	}
}

// A handler that gained attributes does not change the one it came from.
func TestWithAttrsIsACopy(t *testing.T) {
	var buf bytes.Buffer
	l := slog.New(hclogslog.New(hclog.New(&hclog.LoggerOptions{Output: &buf, JSONFormat: true})))
	l.With("a", 1).WithGroup("g").Info("first", "b", 2)
	buf.Reset()
	l.Info("second", "c", 3)
	m := nest(t, buf.Bytes())
	delete(m, slog.TimeKey)
	want := map[string]any{"level": "info", "msg": "second", "c": float64(3)}
	if d := cmp.Diff(want, m); d != "" {
		t.Error(d)
	}
}
