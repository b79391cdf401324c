package main

import (
	"io"
	"maps"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/config"
)

// newLogger returns the daemon's logger. The caller closes what is returned
// with it after the last message.
func newLogger(c config.Log, stderr io.Writer) (*logger, *outlet, error) {
	out := &outlet{stderr: stderr, journal: journalSocket}
	s, err := out.open(c)
	if err != nil {
		return nil, nil, err
	}
	out.now.Store(s)
	// The logger itself writes nothing: all messages go by way of the sink.
	root := hclog.NewInterceptLogger(&hclog.LoggerOptions{Name: "iserd", Level: hclog.Off, Output: io.Discard})
	root.RegisterSink(out)
	l := &logger{Logger: root, levels: newLogLevels(c.Level, c.Levels)}
	l.level = l.levels.of("")
	return l, out, nil
}

// logLevels are the levels of the parts of the daemon, which can be changed
// while it runs. A key of byName is the name of a logger below the root, and
// holds for all loggers under it that have no level of their own. All methods
// are safe for concurrent use.
type logLevels struct {
	mu     sync.Mutex
	root   string
	byName map[string]string
	cells  map[string]*atomic.Int32 // by logger name; names are few
}

func newLogLevels(root string, byName map[string]string) *logLevels {
	return &logLevels{root: root, byName: maps.Clone(byName), cells: make(map[string]*atomic.Int32)}
}

// of returns where the level of the logger called name is kept.
func (s *logLevels) of(name string) *atomic.Int32 {
	s.mu.Lock()
	defer s.mu.Unlock()
	c := s.cells[name]
	if c == nil {
		c = new(atomic.Int32)
		c.Store(s.levelLocked(name))
		s.cells[name] = c
	}
	return c
}

func (s *logLevels) levelLocked(name string) int32 {
	for name != "" {
		if l, ok := s.byName[name]; ok {
			return int32(hclog.LevelFromString(l))
		}
		name = name[:max(0, strings.LastIndexByte(name, '.'))]
	}
	return int32(hclog.LevelFromString(s.root))
}

// set replaces all levels.
func (s *logLevels) set(root string, byName map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.root, s.byName = root, maps.Clone(byName)
	for name, c := range s.cells {
		c.Store(s.levelLocked(name))
	}
}

// get returns what set was given.
func (s *logLevels) get() (root string, byName map[string]string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.root, maps.Clone(s.byName)
}

// logger is an hclog.Logger whose level is looked up at each message.
type logger struct {
	hclog.Logger
	levels *logLevels
	name   string // below the root
	level  *atomic.Int32
}

func (l *logger) at(level hclog.Level) bool { return level >= hclog.Level(l.level.Load()) }

// Log implements hclog.Logger, as all that follow.
func (l *logger) Log(level hclog.Level, msg string, args ...any) {
	if l.at(level) {
		l.Logger.Log(level, msg, args...)
	}
}

func (l *logger) Trace(msg string, args ...any) { l.Log(hclog.Trace, msg, args...) }
func (l *logger) Debug(msg string, args ...any) { l.Log(hclog.Debug, msg, args...) }
func (l *logger) Info(msg string, args ...any)  { l.Log(hclog.Info, msg, args...) }
func (l *logger) Warn(msg string, args ...any)  { l.Log(hclog.Warn, msg, args...) }
func (l *logger) Error(msg string, args ...any) { l.Log(hclog.Error, msg, args...) }

func (l *logger) IsTrace() bool         { return l.at(hclog.Trace) }
func (l *logger) IsDebug() bool         { return l.at(hclog.Debug) }
func (l *logger) IsInfo() bool          { return l.at(hclog.Info) }
func (l *logger) IsWarn() bool          { return l.at(hclog.Warn) }
func (l *logger) IsError() bool         { return l.at(hclog.Error) }
func (l *logger) GetLevel() hclog.Level { return hclog.Level(l.level.Load()) }

// SetLevel does nothing: levels are those of the configuration and the console.
func (l *logger) SetLevel(hclog.Level) {}

func (l *logger) With(args ...any) hclog.Logger {
	return &logger{Logger: l.Logger.With(args...), levels: l.levels, name: l.name, level: l.level}
}

func (l *logger) Named(name string) hclog.Logger {
	full := name
	if l.name != "" {
		full = l.name + "." + name
	}
	return &logger{Logger: l.Logger.Named(name), levels: l.levels, name: full, level: l.levels.of(full)}
}

func (l *logger) ResetNamed(name string) hclog.Logger {
	return &logger{Logger: l.Logger.ResetNamed(name), levels: l.levels, name: name, level: l.levels.of(name)}
}
