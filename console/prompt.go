package console

import (
	"context"
	"errors"
	"io"
	"strconv"
	"strings"

	"charm.land/bubbles/v2/textinput"
	tea "charm.land/bubbletea/v2"
	"charm.land/lipgloss/v2"
)

// ErrInterrupted is returned for a line that was given up by Ctrl-C.
var ErrInterrupted = errors.New("interrupted")

// Candidate is one way to go on with a line.
type Candidate struct {
	Text string // in place of the last word
	Note string // what it is
	Open bool   // more follows without a space
}

// Prompt reads lines from a terminal.
type Prompt struct {
	Text     string                        // before the line
	Complete func(line string) []Candidate // ways to go on with what is before the cursor
	History  *History
}

// Read returns a line without its end: io.EOF for Ctrl-D in an empty line,
// ErrInterrupted for Ctrl-C. The terminal is as it was before, below the line.
func (p *Prompt) Read(ctx context.Context, in io.Reader, out io.Writer) (string, error) {
	m := newPromptModel(p)
	_, err := tea.NewProgram(m, tea.WithContext(ctx), tea.WithInput(in), tea.WithOutput(out), tea.WithoutSignalHandler()).Run()
	if err != nil {
		return "", err
	}
	return m.input.Value(), m.end
}

// promptModel is one line under way.
type promptModel struct {
	p     *Prompt
	input textinput.Model
	width int

	choices []Candidate // shown below the line
	at      int         // in the history
	typed   string      // before the history was looked at
	done    bool
	end     error
}

func newPromptModel(p *Prompt) *promptModel {
	in := textinput.New()
	in.Prompt = p.Text
	in.SetVirtualCursor(false)
	styles := in.Styles()
	styles.Focused.Prompt, styles.Focused.Text = lipgloss.NewStyle().Bold(true), lipgloss.NewStyle()
	in.SetStyles(styles)
	in.Focus()
	return &promptModel{p: p, input: in, width: 80, at: len(p.History.lines)}
}

// Init implements tea.Model, as the two that follow.
func (m *promptModel) Init() tea.Cmd { return nil }

// Update implements tea.Model.
func (m *promptModel) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width = msg.Width
		m.input.SetWidth(max(1, m.width-lipgloss.Width(m.p.Text)-1))
		return m, nil
	case tea.KeyPressMsg:
		return m, m.key(msg)
	}
	var cmd tea.Cmd
	m.input, cmd = m.input.Update(msg)
	return m, cmd
}

func (m *promptModel) key(k tea.KeyPressMsg) tea.Cmd {
	m.choices = nil
	switch k.String() {
	case "enter":
		return m.over(nil)
	case "ctrl+c":
		return m.over(ErrInterrupted)
	case "ctrl+d":
		if m.input.Value() == "" {
			return m.over(io.EOF)
		}
	case "tab":
		m.complete()
		return nil
	case "up", "ctrl+p":
		m.older()
		return nil
	case "down", "ctrl+n":
		m.newer()
		return nil
	case "ctrl+l":
		return tea.ClearScreen
	}
	var cmd tea.Cmd
	m.input, cmd = m.input.Update(k)
	m.at = len(m.p.History.lines)
	return cmd
}

func (m *promptModel) over(err error) tea.Cmd {
	m.done, m.end = true, err
	return tea.Quit
}

// older shows the line before that begins with what was typed.
func (m *promptModel) older() {
	h := m.p.History
	if m.at == len(h.lines) {
		m.typed = m.input.Value()
	}
	if i := h.before(m.at, m.typed); i >= 0 {
		m.at = i
		m.put(h.lines[i])
	}
}

// newer goes the other way, back to what was typed.
func (m *promptModel) newer() {
	h := m.p.History
	if m.at == len(h.lines) {
		return
	}
	if m.at = h.after(m.at, m.typed); m.at == len(h.lines) {
		m.put(m.typed)
		return
	}
	m.put(h.lines[m.at])
}

func (m *promptModel) put(line string) {
	m.input.SetValue(line)
	m.input.CursorEnd()
}

// complete goes on with the last word as far as there is one way, and shows the
// ways otherwise.
func (m *promptModel) complete() {
	runes := []rune(m.input.Value())
	left, right := string(runes[:m.input.Position()]), string(runes[m.input.Position():])
	all := m.p.Complete(left)
	if len(all) == 0 {
		return
	}
	word := left[strings.LastIndexByte(left, ' ')+1:]
	common := visible(all[0].Text)
	for _, c := range all[1:] {
		common = shared(common, visible(c.Text))
	}
	switch {
	case len(all) == 1 && !all[0].Open:
		common += " "
	case len(all) > 1 && len(common) <= len(word):
		m.choices = all
		return
	}
	left = left[:len(left)-len(word)] + common
	m.input.SetValue(left + right)
	m.input.SetCursor(len([]rune(left)))
}

// shared is what two words begin with.
func shared(a, b string) string {
	n := 0
	for x, r := range a {
		if !strings.HasPrefix(b[x:], string(r)) {
			return a[:x]
		}
		n = x + len(string(r))
	}
	return a[:n]
}

// maxChoices is how many lines of choices are shown.
const maxChoices = 12

// View implements tea.Model.
func (m *promptModel) View() tea.View {
	if m.done {
		end := "\n" // the last line is erased in the end
		if errors.Is(m.end, ErrInterrupted) {
			end = "^C\n"
		}
		return tea.NewView(m.input.Styles().Focused.Prompt.Render(m.p.Text) + m.input.Value() + end)
	}
	v := tea.NewView(m.input.View() + m.choiceLines())
	if v.Cursor = m.input.Cursor(); v.Cursor != nil {
		v.Cursor.Color = nil // that of the terminal
	}
	return v
}

func (m *promptModel) choiceLines() string {
	if len(m.choices) == 0 {
		return ""
	}
	rows := make([][]string, 0, len(m.choices))
	for _, c := range m.choices[:min(len(m.choices), maxChoices)] {
		rows = append(rows, []string{"  " + visible(c.Text), visible(c.Note)})
	}
	faint := lipgloss.NewStyle().Faint(true)
	var b strings.Builder
	for _, line := range columns(rows) {
		b.WriteString("\n" + faint.Render(cut(line, m.width)))
	}
	if n := len(m.choices) - maxChoices; n > 0 {
		b.WriteString("\n" + faint.Render(cut("  … "+strconv.Itoa(n)+" more", m.width)))
	}
	return b.String()
}
