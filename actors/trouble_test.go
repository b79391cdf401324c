package actors_test

import (
	"bytes"
	"context"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/actors"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter/fault"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu"
)

// logText is a log that can be read while it is written.
type logText struct {
	mu sync.Mutex
	b  bytes.Buffer
}

func (l *logText) Write(p []byte) (int, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.b.Write(p)
}

// wait returns the lines with text, as soon as there is one.
func (l *logText) wait(t *testing.T, text string) (lines []string) {
	t.Helper()
	for range 1000 {
		l.mu.Lock()
		all := l.b.String()
		l.mu.Unlock()
		for line := range strings.Lines(all) {
			if strings.Contains(line, text) {
				lines = append(lines, line)
			}
		}
		if lines != nil {
			return lines
		}
		time.Sleep(10 * time.Millisecond)
	}
	t.Fatalf("the log never has %q", text)
	return nil
}

// TestFailedCommandsAreLogged: why a command failed in the backend is in the log,
// and a hundred more within a moment are not a hundred lines.
func TestFailedCommandsAreLogged(t *testing.T) {
	var text logText
	r := newLoggingRig(t, actors.Limits{}, hclog.New(&hclog.LoggerOptions{Output: &text}))
	s, err := r.login(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	r.fault.Inject(fault.Rule{Action: fault.Fail, Err: luns.ErrMedium})
	read := []byte{0x28, 0, 0, 0, 0, 7, 0, 0, 1, 0}
	failed := 0
	for range 110 {
		got, err := s.Exec(testContext(t), pdu.LUNOf(0), read, nil, blk)
		if err != nil {
			t.Fatal(err)
		}
		if got.Status == 2 {
			failed++
		}
	}
	lines := text.wait(t, "commands failed in the backend")
	if failed < 100 || len(lines) != 1 {
		t.Errorf("%d commands failed, %d lines: %q", failed, len(lines), lines)
	}
	for _, want := range []string{"READ(10)", "lba=7", "MEDIUM ERROR 11h/00h", luns.ErrMedium.Error()} {
		if !strings.Contains(lines[0], want) {
			t.Errorf("%q is not in %s", want, lines[0])
		}
	}
}

// fullStore is memory that has used most of its store.
type fullStore struct{ *memory.Backend }

func (fullStore) Resources(context.Context) (used, available int64, err error) { return 90, 10, nil }

// TestThresholdIsLogged: the administrator is told of the threshold too.
func TestThresholdIsLogged(t *testing.T) {
	var text logText
	r := newLoggingRig(t, actors.Limits{}, hclog.New(&hclog.LoggerOptions{Output: &text}))
	mem, err := memory.New(memory.Options{Size: 1 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := r.target.AttachLUN(t.Context(), actors.LUNConfig{
		Number: 1, Open: func(context.Context) (luns.Backend, error) { return fullStore{mem}, nil },
		Unit: scsi.Config{Serial: "thin", Thin: true, ThinThreshold: 80},
	}); err != nil {
		t.Fatal(err)
	}
	s, err := r.login(1, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	write := []byte{0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0}
	for range 3 { // unit attentions
		if _, err := s.Exec(testContext(t), pdu.LUNOf(1), write, make([]byte, blk), 0); err != nil {
			t.Fatal(err)
		}
	}
	if line := text.wait(t, "threshold reached")[0]; !strings.Contains(line, "used_bytes=90 total_bytes=100") {
		t.Error(line)
	}
}
