package console

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// maxHistory is how many lines are kept.
const maxHistory = 1000

// History are the lines of a Prompt, the oldest first.
type History struct {
	file  string
	lines []string
}

// OpenHistory reads the lines that earlier prompts have left in a file; without
// the file, or with file "", there are none.
func OpenHistory(file string) (*History, error) {
	h := &History{file: file}
	if file == "" {
		return h, nil
	}
	b, err := os.ReadFile(file)
	if errors.Is(err, fs.ErrNotExist) {
		return h, nil
	}
	if err != nil {
		return h, err
	}
	for l := range bytes.Lines(b) {
		if s := strings.TrimRight(string(l), "\r\n"); s != "" {
			h.lines = append(h.lines, s)
		}
	}
	h.trim()
	return h, nil
}

func (h *History) trim() { h.lines = h.lines[max(0, len(h.lines)-maxHistory):] }

// Add notes a line, unless it is empty, begins with a space, or is the one before
// again. The file is for its owner alone: lines may tell names.
func (h *History) Add(line string) error {
	if line == "" || line[0] == ' ' || len(h.lines) > 0 && h.lines[len(h.lines)-1] == line {
		return nil
	}
	h.lines = append(h.lines, line)
	h.trim()
	if h.file == "" {
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(h.file), 0o700); err != nil {
		return err
	}
	// Written anew: it stays short, and two prompts do not mix their lines.
	tmp := h.file + ".new"
	if err := os.WriteFile(tmp, []byte(strings.Join(h.lines, "\n")+"\n"), 0o600); err != nil {
		return err
	}
	return os.Rename(tmp, h.file)
}

// before returns the latest line before number i that begins with prefix, -1 if
// there is none.
func (h *History) before(i int, prefix string) int {
	for i--; i >= 0; i-- {
		if strings.HasPrefix(h.lines[i], prefix) {
			return i
		}
	}
	return -1
}

// after returns the next line after number i that begins with prefix; the number
// of lines if there is none.
func (h *History) after(i int, prefix string) int {
	if j := slices.IndexFunc(h.lines[min(i+1, len(h.lines)):], func(s string) bool { return strings.HasPrefix(s, prefix) }); j >= 0 {
		return i + 1 + j
	}
	return len(h.lines)
}
