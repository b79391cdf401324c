package console

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"time"

	"charm.land/lipgloss/v2"

	"github.com/iserd/iserd/api"
)

// render draws the whole screen: at most height lines of at most width columns.
func (m *model) render() string {
	bold, faint, reverse := lipgloss.NewStyle().Bold(true), lipgloss.NewStyle().Faint(true), lipgloss.NewStyle().Reverse(true)
	lines := []string{bold.Render(cut(m.title(), m.width)), cut(m.tabs(), m.width)}
	if m.now == nil {
		if m.err != nil {
			lines = append(lines, "", cut(m.err.Error(), m.width))
		}
		return strings.Join(lines, "\n")
	}
	rows := m.table()
	texts := columns(fit(rows, m.width))
	first := 0
	room := max(1, m.height-5)
	if m.selected >= room {
		first = m.selected - room + 1
	}
	lines = append(lines, faint.Render(cut(texts[0], m.width)))
	for i, text := range texts[1:] {
		switch {
		case i < first || i >= first+room:
		case i == m.selected:
			lines = append(lines, reverse.Render(pad(cut(text, m.width), m.width)))
		default:
			lines = append(lines, cut(text, m.width))
		}
	}
	if m.detail != nil {
		lines = append(lines, detailLines(m.detail, m.width)...)
	}
	for len(lines) < m.height-1 {
		lines = append(lines, "")
	}
	return strings.Join(append(lines[:min(len(lines), m.height-1)], faint.Render(cut(m.footer(), m.width))), "\n")
}

func (m *model) title() string {
	if m.now == nil {
		return "iserd"
	}
	s := m.now.status
	node := s.Node
	if node == "" {
		node = s.Version
	}
	var iops, rd, wr float64
	for _, f := range flows(m.old, m.now) {
		iops, rd, wr = iops+f.iops(), rd+f.readBytes, wr+f.writeBytes
	}
	out := fmt.Sprintf("iserd %s  %s  %d sessions  iops %s  rd %s/s  wr %s/s  buf %s/%s", node, m.now.at.Format(time.TimeOnly),
		s.Sessions, si(iops), bytesOf(rd), bytesOf(wr), bytesOf(float64(s.BufferBytes)), bytesOf(float64(s.BufferLimit)))
	if len(s.Warnings) > 0 {
		out += fmt.Sprintf("  %d WARNINGS", len(s.Warnings))
	}
	return out
}

func (m *model) tabs() string {
	var b strings.Builder
	for s := range numScreens {
		if s == m.screen {
			fmt.Fprintf(&b, "[%d %v] ", s+1, s)
		} else {
			fmt.Fprintf(&b, " %d %v  ", s+1, s)
		}
	}
	if m.screen == screenTop {
		fmt.Fprintf(&b, "  iops %s", spark(m.history))
	}
	return b.String()
}

func (m *model) footer() string {
	switch {
	case m.asking != "":
		return m.asking + " " + m.now.actors[min(m.selected, len(m.now.actors)-1)].Path + "? y/n"
	case m.message != "":
		return m.message
	case m.err != nil:
		return m.err.Error()
	case m.screen == screenTop:
		return "q quit  tab next  s sort: " + m.sort.String() + "  p pause" + m.pausedText()
	case m.screen == screenActors:
		return "q quit  tab next  enter describe  r restart  x stop  esc close" + m.pausedText()
	default:
		return "q quit  tab next  p pause" + m.pausedText()
	}
}

func (m *model) pausedText() string {
	if m.paused {
		return "  PAUSED"
	}
	return ""
}

// table returns the heading and the rows of the screen.
func (m *model) table() [][]string {
	switch m.screen {
	case screenActors:
		return actorTable(m.now.actors)
	case screenFaults:
		return faultTable(m.now.faults)
	case screenLogins:
		return loginTable(m.now.refusals)
	default:
		return flowTable(flows(m.old, m.now), m.sort)
	}
}

func flowTable(all []flow, by order) [][]string {
	sortFlows(all, by)
	rows := [][]string{{"LUN", "BACKEND", "INITIATOR", "TR", "R/s", "W/s", "rd/s", "wr/s", "QD", "p50", "p99", "WAIT@"}}
	for i := range all {
		f := &all[i]
		rows = append(rows, []string{
			f.lun, f.backend, f.initiator, f.transport, si(f.reads), si(f.writes), bytesOf(f.readBytes), bytesOf(f.writeBytes),
			fmt.Sprintf("%.1f", f.depth), duration(f.p50), duration(f.p99), f.wait,
		})
	}
	return rows
}

func actorTable(all []api.Actor) [][]string {
	rows := [][]string{{"ACTOR", "BEHAVIOUR", "MBOX", "MAX", "RESTARTS", "AGE", "LAST"}}
	for i := range all {
		a := &all[i]
		behaviour := a.Behaviour
		if behaviour == "" || a.State != "running" {
			behaviour = a.State
		}
		depth := strings.Count(a.Path, "/")
		rows = append(rows, []string{
			strings.Repeat("  ", depth) + a.Path[strings.LastIndexByte(a.Path, '/')+1:], behaviour,
			fmt.Sprint(a.Queued), fmt.Sprint(a.MaxQueued), fmt.Sprint(a.Restarts), age(a.Age), a.LastMessage[strings.LastIndexByte(a.LastMessage, '.')+1:],
		})
	}
	return rows
}

func faultTable(all []api.Fault) [][]string {
	rows := [][]string{{"TIME", "ACTOR", "MESSAGE", "PANIC", "ACTION"}}
	for i := range slices.Backward(all) {
		f := &all[i]
		text, _, _ := strings.Cut(f.Panic, "\n")
		rows = append(rows, []string{f.Time.Format(time.DateTime), f.Path, f.Message, text, f.Action})
	}
	return rows
}

func loginTable(all []api.Refusal) [][]string {
	rows := [][]string{{"LAST", "TIMES", "FROM", "INITIATOR", "TARGET", "REASON"}}
	for i := range all {
		r := &all[i]
		rows = append(rows, []string{r.Last.Format(time.DateTime), fmt.Sprint(r.Count), r.Address, r.Initiator, r.Target, r.Reason})
	}
	return rows
}

func detailLines(a *api.Actor, width int) []string {
	b, err := json.MarshalIndent(a.Details, "", "  ")
	if err != nil {
		return nil
	}
	out := []string{"", cut(fmt.Sprintf("%s: %s, %d messages, %d failures", a.Path, a.State, a.Processed, a.Failures), width)}
	for l := range strings.SplitSeq(string(b), "\n") {
		out = append(out, cut(l, width))
	}
	return out
}

// columns lays rows out in columns; numbers, which begin with a digit in all
// rows, stand to the right.
// Bounds of fit, in characters: what it leaves of a column, and what it leaves room
// for of the last one, which has what is to be said.
const (
	narrowest = 12
	lastRoom  = 40
)

// fit shortens texts in the middle, those of the widest column first, until a row has
// at most width characters: a long name must not push off the screen what stands behind
// it. The last column stays as it is.
func fit(rows [][]string, width int) [][]string {
	out := make([][]string, len(rows))
	widths, total := make([]int, len(rows[0])), -2
	for k, r := range rows {
		out[k] = slices.Clone(r)
		for i, cell := range r {
			widths[i] = max(widths[i], len([]rune(cell)))
		}
	}
	last := len(widths) - 1
	for _, n := range append(slices.Clone(widths[:last]), min(widths[last], lastRoom)) {
		total += n + 2
	}
	for ; total > width; total-- {
		widest := slices.Index(widths, slices.Max(widths[:last]))
		if widths[widest] <= narrowest {
			break
		}
		widths[widest]--
	}
	for _, r := range out {
		for i, cell := range r {
			r[i] = middle(cell, widths[i])
		}
	}
	return out
}

// middle shortens a text to n characters: its begin and its end stay.
func middle(text string, n int) string {
	r := []rune(text)
	if len(r) <= n {
		return text
	}
	return string(r[:n/2]) + "…" + string(r[len(r)-(n-n/2-1):])
}

func columns(rows [][]string) []string {
	widths := make([]int, len(rows[0]))
	right := make([]bool, len(rows[0]))
	for i := range widths {
		right[i] = len(rows) > 1
		for k, r := range rows {
			widths[i] = max(widths[i], len([]rune(r[i])))
			if k > 0 && (r[i] == "" || r[i] != "-" && (r[i][0] < '0' || r[i][0] > '9')) {
				right[i] = false
			}
		}
	}
	out := make([]string, 0, len(rows))
	for _, r := range rows {
		var b strings.Builder
		for i, cell := range r {
			gap := strings.Repeat(" ", widths[i]-len([]rune(cell)))
			if right[i] {
				b.WriteString(gap + cell + "  ")
			} else {
				b.WriteString(cell + gap + "  ")
			}
		}
		out = append(out, strings.TrimRight(b.String(), " "))
	}
	return out
}

// visible replaces control characters, which initiators can put into their
// names: they do not reach the terminal.
func visible(text string) string {
	return strings.Map(func(c rune) rune {
		if c < ' ' || c == 0x7f || c >= 0x80 && c < 0xa0 {
			return '?'
		}
		return c
	}, text)
}

// cut shortens text to width columns.
func cut(text string, width int) string {
	r := []rune(visible(text))
	if len(r) > width {
		return string(r[:max(0, width-1)]) + "…"
	}
	return string(r)
}

func pad(text string, width int) string {
	return text + strings.Repeat(" ", max(0, width-len([]rune(text))))
}

// spark draws values in eighths of a line, the largest as a whole one.
func spark(values []float64) string {
	top := 0.0
	for _, v := range values {
		top = max(top, v)
	}
	var b strings.Builder
	for _, v := range values {
		level := 0
		if top > 0 {
			level = int(v / top * 7)
		}
		b.WriteRune([]rune("▁▂▃▄▅▆▇█")[level])
	}
	return b.String()
}

// si is a number of at most four digits.
func si(v float64) string {
	switch {
	case v >= 1e6:
		return fmt.Sprintf("%.1fM", v/1e6)
	case v >= 1e4:
		return fmt.Sprintf("%.1fk", v/1e3)
	default:
		return fmt.Sprintf("%.0f", v)
	}
}

func bytesOf(v float64) string {
	units := "BKMGTP"
	i := 0
	for v >= 1024 && i < len(units)-1 {
		v /= 1024
		i++
	}
	if i == 0 {
		return fmt.Sprintf("%.0fB", v)
	}
	return fmt.Sprintf("%.1f%c", v, units[i])
}

func duration(d time.Duration) string {
	switch {
	case d == 0:
		return "-"
	case d < time.Millisecond:
		return fmt.Sprintf("%dµs", d.Microseconds())
	case d < time.Second:
		return fmt.Sprintf("%.1fms", float64(d)/1e6)
	default:
		return fmt.Sprintf("%.1fs", d.Seconds())
	}
}

func age(seconds float64) string {
	d := time.Duration(seconds) * time.Second
	if d >= 24*time.Hour {
		return fmt.Sprintf("%dd%02dh", int(d/(24*time.Hour)), int(d/time.Hour)%24)
	}
	return d.String()
}
