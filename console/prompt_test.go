package console

import (
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	tea "charm.land/bubbletea/v2"
	"github.com/google/go-cmp/cmp"
)

// keys presses keys: names of keys, or text.
func (m *promptModel) keys(keys ...string) *promptModel {
	for _, k := range keys {
		msg := tea.KeyPressMsg{Text: k}
		switch k {
		case "tab":
			msg = tea.KeyPressMsg{Code: tea.KeyTab}
		case "enter":
			msg = tea.KeyPressMsg{Code: tea.KeyEnter}
		case "up":
			msg = tea.KeyPressMsg{Code: tea.KeyUp}
		case "down":
			msg = tea.KeyPressMsg{Code: tea.KeyDown}
		case "left":
			msg = tea.KeyPressMsg{Code: tea.KeyLeft}
		case "backspace":
			msg = tea.KeyPressMsg{Code: tea.KeyBackspace}
		case "ctrl+c", "ctrl+d", "ctrl+u", "ctrl+a", "ctrl+w":
			msg = tea.KeyPressMsg{Code: rune(k[5]), Mod: tea.ModCtrl}
		}
		m.Update(msg)
	}
	return m
}

func (m *promptModel) screen() string {
	return strings.TrimRight(escapes.ReplaceAllString(m.View().Content, ""), " ")
}

func words(line string) []Candidate {
	all := []Candidate{
		{Text: "session", Note: "Show and end sessions"},
		{Text: "status", Note: "Show how the daemon is"},
		{Text: "stop\x1b[2J", Note: "evil\nname"},
	}
	word := line[strings.LastIndexByte(line, ' ')+1:]
	return slices.DeleteFunc(all, func(c Candidate) bool { return !strings.HasPrefix(c.Text, word) })
}

func TestPromptCompletes(t *testing.T) {
	p := &Prompt{Text: "gw1> ", Complete: words, History: &History{}}
	for _, x := range []struct{ keys, want string }{
		{"se tab", "gw1> session"},
		{"s tab", "gw1> s\n  session    Show and end sessions\n  status     Show how the daemon is\n  stop?[2J  evil?name"},
		{"st tab a tab", "gw1> status"},
		{"x tab", "gw1> x"},
		{"help _ stat tab", "gw1> help status"},
		{"sta x left tab", "gw1> status x"},
		{"stat backspace backspace u ctrl+u", "gw1>"},
	} {
		m := newPromptModel(p)
		m.Update(tea.WindowSizeMsg{Width: 60, Height: 10})
		for k := range strings.FieldsSeq(x.keys) {
			m.keys(strings.ReplaceAll(k, "_", " "))
		}
		got := strings.Join(strings.Fields(m.screen()), " ")
		if got != strings.Join(strings.Fields(x.want), " ") {
			t.Errorf("%s: %q", x.keys, m.screen())
		}
	}
}

func TestPromptEnds(t *testing.T) {
	p := &Prompt{Text: "> ", Complete: words, History: &History{}}
	for _, x := range []struct {
		keys []string
		line string
		end  error
	}{
		{[]string{"ls", "enter"}, "ls", nil},
		{[]string{"ctrl+d"}, "", io.EOF},
		{[]string{"ls", "ctrl+a", "ctrl+d", "enter"}, "s", nil}, // deletes within a line
		{[]string{"ls", "ctrl+c"}, "ls", ErrInterrupted},
	} {
		m := newPromptModel(p).keys(x.keys...)
		if !m.done || m.input.Value() != x.line || !errors.Is(m.end, x.end) {
			t.Errorf("%v: %v %q %v", x.keys, m.done, m.input.Value(), m.end)
		}
		if c := m.View().Cursor; c != nil {
			t.Error("the cursor stays in the line that is over")
		}
	}
}

// TestPromptHistory: the arrows go through lines that begin as the one typed.
func TestPromptHistory(t *testing.T) {
	p := &Prompt{Text: "> ", Complete: words, History: &History{lines: []string{"lun ls", "status", "lun show a/0", "session ls"}}}
	for _, x := range []struct {
		keys []string
		want string
	}{
		{[]string{"up"}, "session ls"},
		{[]string{"up", "up", "up", "up", "up"}, "lun ls"},
		{[]string{"up", "up", "down"}, "session ls"},
		{[]string{"l", "up", "up"}, "lun ls"},
		{[]string{"l", "up", "up", "down"}, "lun show a/0"},
		{[]string{"l", "up", "up", "down", "down", "down"}, "l"},
		{[]string{"z", "up"}, "z"},
	} {
		if got := newPromptModel(p).keys(x.keys...).input.Value(); got != x.want {
			t.Errorf("%v: %q, want %q", x.keys, got, x.want)
		}
	}
}

func TestHistoryFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "state", "iserd", "history")
	h, err := OpenHistory(file)
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range []string{"one", "one", "", " hidden", "two"} {
		if err := h.Add(l); err != nil {
			t.Fatal(err)
		}
	}
	again, err := OpenHistory(file)
	if d := cmp.Diff([]string{"one", "two"}, again.lines); d != "" || err != nil {
		t.Error(err, d)
	}
	info, err := os.Stat(file)
	if err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	for i := range 2 * maxHistory {
		_ = again.Add(strings.Repeat("x", i%7+1))
	}
	if again, err = OpenHistory(file); err != nil || len(again.lines) != maxHistory {
		t.Errorf("%d lines, %v", len(again.lines), err)
	}
}

// TestPromptScreen is what a user sees after Tab.
func TestPromptScreen(t *testing.T) {
	p := &Prompt{Text: "gw1> ", History: &History{}, Complete: func(string) []Candidate {
		var all []Candidate
		for i := range 15 {
			all = append(all, Candidate{Text: fmt.Sprintf("iqn.2026-11.com.example:db%02d/0", i), Note: "file/db  2.0 TiB  online"})
		}
		return all
	}}
	m := newPromptModel(p)
	m.Update(tea.WindowSizeMsg{Width: 72, Height: 24})
	m.keys("lun show iqn.2026-11.com.example:db", "tab")
	golden(t, "prompt", m.screen())
	for l := range strings.SplitSeq(m.screen(), "\n") {
		if n := len([]rune(strings.TrimRight(l, " "))); n > 72 {
			t.Errorf("line of %d columns: %q", n, l)
		}
	}
}
