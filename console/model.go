package console

import (
	"context"
	"time"

	tea "charm.land/bubbletea/v2"

	"github.com/iserd/iserd/api"
)

// screen is one of the views.
type screen int

const (
	screenTop screen = iota
	screenActors
	screenFaults
	screenLogins
	numScreens
)

func (s screen) String() string { return [...]string{"LUNs", "actors", "faults", "logins"}[s] }

// historyLen is how many intervals the sparkline remembers.
const historyLen = 60

// Options say how the screens begin.
type Options struct {
	Every  time.Duration // between looks at the daemon; 0: one second
	Actors bool          // begin with the actors
}

// model is the state of the program.
type model struct {
	ctx   context.Context
	src   Source
	every time.Duration

	screen        screen
	sort          order
	width, height int
	selected      int
	paused        bool

	old, now *snapshot
	history  []float64 // operations per second
	err      error
	detail   *api.Actor // shown over the actors
	asking   string     // what to do with the selected actor, once confirmed
	message  string
}

// Run shows the screens until the user ends them or ctx ends.
func Run(ctx context.Context, src Source, o Options) error {
	_, err := tea.NewProgram(newModel(ctx, src, o), tea.WithContext(ctx)).Run()
	return err
}

func newModel(ctx context.Context, src Source, o Options) *model {
	m := &model{ctx: ctx, src: src, every: o.Every, width: 100, height: 30}
	if m.every <= 0 {
		m.every = time.Second
	}
	if o.Actors {
		m.screen = screenActors
	}
	return m
}

// Messages.
type (
	looked struct {
		s   *snapshot
		err error
	}
	tick      struct{}
	described struct {
		a   *api.Actor
		err error
	}
	did struct {
		what string
		err  error
	}
)

// Init implements tea.Model, as all that follow.
func (m *model) Init() tea.Cmd { return m.look }

func (m *model) look() tea.Msg {
	ctx, cancel := context.WithTimeout(m.ctx, 10*time.Second)
	defer cancel()
	s, err := look(ctx, m.src, time.Now())
	return looked{s, err}
}

// Update implements tea.Model.
func (m *model) Update(msg tea.Msg) (tea.Model, tea.Cmd) {
	switch msg := msg.(type) {
	case tea.WindowSizeMsg:
		m.width, m.height = msg.Width, msg.Height
	case looked:
		m.take(msg)
		return m, tea.Tick(m.every, func(time.Time) tea.Msg { return tick{} })
	case tick:
		if m.paused {
			return m, tea.Tick(m.every, func(time.Time) tea.Msg { return tick{} })
		}
		return m, m.look
	case described:
		m.detail, m.err = msg.a, msg.err
	case did:
		m.message = msg.what + ": done"
		if msg.err != nil {
			m.message = msg.what + ": " + msg.err.Error()
		}
	case tea.KeyPressMsg:
		return m, m.key(msg.String())
	}
	return m, nil
}

func (m *model) take(l looked) {
	m.err = l.err
	if l.err != nil {
		return
	}
	m.old, m.now = m.now, l.s
	if m.old == nil {
		return
	}
	sum := 0.0
	for _, f := range flows(m.old, m.now) {
		sum += f.iops()
	}
	m.history = append(m.history, sum)
	if len(m.history) > historyLen {
		m.history = m.history[1:]
	}
}

func (m *model) key(k string) tea.Cmd {
	if m.asking != "" {
		return m.confirm(k)
	}
	m.message = ""
	switch k {
	case "q", "ctrl+c":
		return tea.Quit
	case "esc":
		m.detail = nil
	case "tab", "right", "l":
		m.show((m.screen + 1) % numScreens)
	case "shift+tab", "left", "h":
		m.show((m.screen + numScreens - 1) % numScreens)
	case "1", "2", "3", "4":
		m.show(screen(k[0] - '1'))
	case "a":
		m.show(screenActors)
	case "s":
		m.sort = (m.sort + 1) % numOrders
	case "p", "space":
		m.paused = !m.paused
	case "down", "j":
		m.selected = min(m.selected+1, max(0, m.rows()-1))
	case "up", "k":
		m.selected = max(m.selected-1, 0)
	case "enter":
		return m.describe()
	case "r":
		m.ask("restart")
	case "x":
		m.ask("stop")
	}
	return nil
}

func (m *model) show(s screen) { m.screen, m.selected, m.detail = s, 0, nil }

// ask wants a confirmation before something is done to an actor.
func (m *model) ask(what string) {
	if m.screen == screenActors && m.now != nil && m.selected < len(m.now.actors) {
		m.asking = what
	}
}

func (m *model) confirm(k string) tea.Cmd {
	what := m.asking
	m.asking = ""
	if k != "y" {
		m.message = what + ": not done"
		return nil
	}
	path := m.now.actors[min(m.selected, len(m.now.actors)-1)].Path
	return func() tea.Msg { return did{what + " " + path, m.src.ActorDo(m.ctx, path, what)} }
}

func (m *model) describe() tea.Cmd {
	if m.screen != screenActors || m.now == nil || m.selected >= len(m.now.actors) {
		return nil
	}
	path := m.now.actors[m.selected].Path
	return func() tea.Msg {
		a, err := m.src.Actor(m.ctx, path)
		return described{a, err}
	}
}

// rows is the number of lines that can be selected.
func (m *model) rows() int {
	if m.now == nil {
		return 0
	}
	switch m.screen {
	case screenActors:
		return len(m.now.actors)
	case screenFaults:
		return len(m.now.faults)
	case screenLogins:
		return len(m.now.refusals)
	default:
		return len(flows(nil, m.now))
	}
}

// View implements tea.Model.
func (m *model) View() tea.View {
	v := tea.NewView(m.render())
	v.AltScreen = true
	return v
}
