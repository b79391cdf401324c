package console

import (
	"context"
	"errors"
	"flag"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/api"
)

var update = flag.Bool("update", false, "write the screens in testdata")

// stub is a daemon that does the same work every second.
type stub struct {
	Source
	second uint64
	did    []string
}

func (s *stub) stats(ops, us uint64) api.Stats {
	n := s.second * ops
	counts := make([]uint64, 26)
	counts[7] = n
	h := func(stage string, part uint64) api.Latency {
		return api.Latency{Op: "read", Stage: stage, Counts: counts, Nanoseconds: n * us * 10 * part}
	}
	return api.Stats{Ops: map[string]uint64{"read": n}, Read: n * 4096, Latency: []api.Latency{h("total", 100), h("backend", 81), h("queue", 19)}}
}

func (s *stub) Status(context.Context) (*api.Status, error) {
	return &api.Status{Version: "v1", Node: "gw1", Sessions: 2, BufferLimit: 1 << 30, BufferBytes: 12 << 20, Warnings: []string{"x"}}, nil
}

func (s *stub) Targets(context.Context) ([]api.Target, error) {
	return []api.Target{{Name: "iqn.2026-11.com.example:db01", LUNs: []api.LUN{{Number: 0, Backend: "file/db"}, {Number: 1, Backend: "memory/x"}}}}, nil
}

func (s *stub) Sessions(context.Context) ([]api.Session, error) {
	one := func(tsih uint16, name string, lun uint16, ops, us uint64) api.Session {
		return api.Session{
			TSIH: tsih, Initiator: "iqn.1998-01.com.vmware:" + name, Target: "iqn.2026-11.com.example:db01", Transport: "tcp",
			LUNs: []api.SessionLUN{{LUN: lun, Number: lun, Stats: s.stats(ops, us)}},
		}
	}
	return []api.Session{one(1, "esx01", 0, 900, 300), one(2, "esx\x1b[2J02", 1, 12500, 100)}, nil
}

func (s *stub) Actors(context.Context) ([]api.Actor, error) {
	return []api.Actor{
		{Path: "node", State: "running", Behaviour: "running", Age: 90000, LastMessage: "actors.spawnChild"},
		{Path: "node/lun-a:0", State: "running", Behaviour: "online", Restarts: 1, Age: 61, LastMessage: "actors.openLUN"},
		{Path: "node/sessions", State: "failed", Queued: 3, MaxQueued: 9, Age: 61},
		{Path: "node/sessions/conn-1", State: "running", Behaviour: "full feature", Age: 5, LastMessage: "*tcp.Turn"},
	}, nil
}

func (s *stub) Actor(_ context.Context, path string) (*api.Actor, error) {
	return &api.Actor{Path: path, State: "running", Processed: 7, Details: map[string]any{"state": "online", "blocks": 100}}, nil
}

func (s *stub) Faults(context.Context) ([]api.Fault, error) {
	return []api.Fault{{Time: when, Path: "node/lun-a:0", Message: "actors.fault", Panic: "index out of range\nstack", Action: "restarted"}}, nil
}

func (s *stub) Refusals(context.Context) ([]api.Refusal, error) {
	return []api.Refusal{{
		Last: when, Count: 3, Address: "10.0.0.9", Initiator: "iqn.1991-05.com.microsoft:win", Target: "iqn.2026-11.com.example:db01",
		Reason: "initiator iqn.1991-05.com.microsoft:win is not on the list of initiator names",
	}}, nil
}

func (s *stub) ActorDo(_ context.Context, path, what string) error {
	s.did = append(s.did, what+" "+path)
	return nil
}

var when = time.Date(2026, 11, 22, 14, 3, 27, 0, time.UTC)

// step has the model look once more.
func (s *stub) step(t *testing.T, m *model) {
	t.Helper()
	s.second++
	x, err := look(t.Context(), s, when.Add(time.Duration(s.second)*time.Second))
	m.Update(looked{x, err})
}

func press(m *model, keys ...string) tea.Cmd {
	var cmd tea.Cmd
	for _, k := range keys {
		cmd = m.key(k)
	}
	return cmd
}

var escapes = regexp.MustCompile("\x1b\\[[0-9;]*m")

func TestScreens(t *testing.T) {
	for _, x := range []struct {
		name  string
		keys  []string
		width int
	}{
		{"top", nil, 120},
		{"top-narrow", []string{"s", "s", "p"}, 60},
		{"actors", []string{"a", "down"}, 100},
		{"actor", []string{"a", "down", "enter"}, 100},
		{"ask", []string{"a", "down", "r"}, 100},
		{"faults", []string{"3"}, 100},
		{"logins", []string{"4"}, 120},
	} {
		t.Run(x.name, func(t *testing.T) {
			s := &stub{}
			m := newModel(t.Context(), s, Options{})
			m.Update(tea.WindowSizeMsg{Width: x.width, Height: 20})
			for range 5 {
				s.step(t, m)
			}
			if cmd := press(m, x.keys...); cmd != nil {
				m.Update(cmd())
			}
			screen := m.View().Content
			got := escapes.ReplaceAllString(screen, "")
			if strings.Contains(got, "\x1b") {
				t.Error("an initiator's name reaches the terminal as it is")
			}
			for l := range strings.SplitSeq(got, "\n") {
				if n := len([]rune(l)); n > x.width {
					t.Errorf("line of %d columns: %q", n, l)
				}
			}
			if n := strings.Count(got, "\n") + 1; n != 20 {
				t.Errorf("%d lines", n)
			}
			golden(t, x.name, got)
		})
	}
}

func golden(t *testing.T, name, got string) {
	t.Helper()
	file := "testdata/" + name + ".txt"
	var trimmed []string
	for l := range strings.SplitSeq(got, "\n") {
		trimmed = append(trimmed, strings.TrimRight(l, " "))
	}
	got = strings.Join(trimmed, "\n") + "\n"
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), got); d != "" {
		t.Errorf("run with -update if that is meant:\n%s", d)
	}
}

func TestOperate(t *testing.T) {
	s := &stub{}
	m := newModel(t.Context(), s, Options{Actors: true})
	if m.View().Content == "" || m.rows() != 0 {
		t.Error("nothing known yet")
	}
	press(m, "down", "r", "enter", "s")
	s.step(t, m)
	press(m, "down", "r", "n")
	if cmd := press(m, "x", "y"); cmd != nil {
		m.Update(cmd())
	}
	if d := cmp.Diff([]string{"stop node/lun-a:0"}, s.did); d != "" {
		t.Error(d)
	}
	if !strings.Contains(m.message, "done") {
		t.Error(m.message)
	}
	for range 10 {
		press(m, "down")
	}
	if m.selected != 3 {
		t.Errorf("selected %d", m.selected)
	}
	m.Update(looked{err: errors.New("gone")})
	if !strings.Contains(m.View().Content, "gone") && m.message == "" {
		t.Error("the error is not shown")
	}
	if cmd := press(m, "q"); cmd == nil {
		t.Error("q does not quit")
	}
}

func TestFlows(t *testing.T) {
	s := &stub{}
	m := newModel(t.Context(), s, Options{})
	s.step(t, m)
	s.step(t, m)
	all := flows(m.old, m.now)
	if f := all[0]; f.reads != 900 || f.readBytes != 900*4096 || f.wait != "backend 81%" || f.depth < 0.26 || f.depth > 0.28 {
		t.Errorf("%+v", f)
	}
}

// TestFit: long names are shortened, the longest first, and what is short or does not
// have to go stays whole.
func TestFit(t *testing.T) {
	rows := [][]string{
		{"LUN", "INITIATOR", "p99"},
		{strings.Repeat("a", 60) + "/0", "short", "1.2ms"},
		{"b/1", strings.Repeat("ü", 30), "10.5ms"},
	}
	for _, width := range []int{200, 96, 80, 60, 40, 34} {
		got := fit(rows, width)
		for k, line := range columns(got) {
			if n := len([]rune(line)); n > width {
				t.Errorf("%d: line %d has %d columns: %q", width, k, n, line)
			}
		}
		if got[1][2] != "1.2ms" || got[2][0] != "b/1" || !strings.HasSuffix(got[1][0], "/0") {
			t.Errorf("%d: %q", width, got)
		}
	}
	if d := cmp.Diff(rows, fit(rows, 200)); d != "" {
		t.Error(d)
	}
	if got := middle("abcdefghij", 5); got != "ab…ij" {
		t.Error(got)
	}
}
