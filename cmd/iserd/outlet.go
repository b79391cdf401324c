package main

import (
	"fmt"
	"io"
	"os"
	"strings"
	"sync/atomic"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/config"
)

// outlet is where messages go. It can be changed while they come.
type outlet struct {
	stderr  io.Writer
	journal string // socket of the journal
	now     atomic.Pointer[sink]
}

// sink is one open output.
type sink struct {
	hclog.SinkAdapter
	io.Closer
	cfg config.Log
}

// Accept implements hclog.SinkAdapter. Messages come one at a time.
func (o *outlet) Accept(name string, level hclog.Level, msg string, args ...any) {
	o.now.Load().Accept(name, level, msg, args...)
}

// Close closes what is open now.
func (o *outlet) Close() error { return o.now.Load().Close() }

// replace makes c the output. One of the functions is to be called: settle closes
// the one before, undo goes back to it.
func (o *outlet) replace(c config.Log) (settle, undo func(), err error) {
	next, err := o.open(c)
	if err != nil {
		return nil, nil, err
	}
	old := o.now.Swap(next)
	return func() { _ = old.Close() }, func() { o.now.Store(old); _ = next.Close() }, nil
}

// reopen begins a new file where the old one was moved away, as logrotate does.
func (o *outlet) reopen() error {
	c := o.now.Load().cfg
	if !strings.HasPrefix(c.Output, "file:") {
		return nil
	}
	settle, _, err := o.replace(c)
	if err == nil {
		settle()
	}
	return err
}

// open opens what c asks for. A stream of systemd's to the journal is replaced by
// the journal itself, which takes fields, where it can be reached.
func (o *outlet) open(c config.Log) (*sink, error) {
	opts := &hclog.LoggerOptions{Level: hclog.Trace, JSONFormat: c.Format == "json"}
	path, isFile := strings.CutPrefix(c.Output, "file:")
	switch {
	case c.Output == "journald":
		j, err := openJournal(o.journal)
		if err != nil {
			return nil, fmt.Errorf("log.output: %w", err)
		}
		return &sink{j, j, c}, nil
	case isFile:
		f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
		if err != nil {
			return nil, fmt.Errorf("log.output: %w", err)
		}
		opts.Output = f
		return &sink{hclog.NewSinkAdapter(opts), f, c}, nil
	case isJournal(o.stderr) && c.Format != "json":
		if j, err := openJournal(o.journal); err == nil {
			return &sink{j, j, c}, nil
		}
		opts.Output, opts.DisableTime = withPriorities(o.stderr), true
	default:
		opts.Output = o.stderr
	}
	return &sink{hclog.NewSinkAdapter(opts), io.NopCloser(nil), c}, nil
}
