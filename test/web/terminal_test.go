package web_test

import (
	"fmt"
	"html"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// terminal is a program in a pseudo-terminal, and what is on its screen: as much of
// ECMA-48 and of xterm's control sequences as our programs send.
type terminal struct {
	t      *testing.T
	cmd    *exec.Cmd
	master *os.File
	done   chan struct{}

	mu         sync.Mutex
	cells      [][]cell
	row, col   int
	style      style
	unknown    map[string]bool
	state      func(rune)
	params     string
	wrapNext   bool
	savedRow   int
	savedCol   int
	hideCursor bool
}

type cell struct {
	r rune
	style
}

type style struct {
	fg, bg                          string
	bold, faint, reverse, underline bool
}

// inTerminal starts a program on a screen of that size.
func inTerminal(t *testing.T, width, height int, env []string, name string, args ...string) *terminal {
	t.Helper()
	master, err := os.OpenFile("/dev/ptmx", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	fd := int(master.Fd())
	n, err := unix.IoctlGetInt(fd, unix.TIOCGPTN)
	if err == nil {
		err = unix.IoctlSetPointerInt(fd, unix.TIOCSPTLCK, 0)
	}
	if err == nil {
		err = unix.IoctlSetWinsize(fd, unix.TIOCSWINSZ, &unix.Winsize{Row: uint16(height), Col: uint16(width)})
	}
	if err != nil {
		t.Fatal(err)
	}
	slave, err := os.OpenFile("/dev/pts/"+strconv.Itoa(n), os.O_RDWR|syscall.O_NOCTTY, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer slave.Close()
	x := &terminal{t: t, master: master, done: make(chan struct{}), unknown: map[string]bool{}}
	x.state = x.ground
	for range height {
		x.cells = append(x.cells, make([]cell, width))
	}
	x.cmd = exec.Command(name, args...)
	x.cmd.Stdin, x.cmd.Stdout, x.cmd.Stderr = slave, slave, slave
	x.cmd.Env = append(append(os.Environ(), "TERM=xterm-256color", "COLORTERM=truecolor", "NO_COLOR="), env...)
	x.cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true, Pdeathsig: syscall.SIGKILL}
	if err := x.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go x.read()
	t.Cleanup(x.close)
	return x
}

func (x *terminal) read() {
	defer close(x.done)
	buf := make([]byte, 1<<16)
	var rest []byte
	for {
		n, err := x.master.Read(buf)
		if err != nil {
			return // EIO: the program is gone
		}
		data := append(rest, buf[:n]...)
		cut := len(data)
		for i := max(0, cut-3); i < cut; i++ { // a rune in two reads
			if data[i] >= 0xc0 && !fullRune(data[i:]) {
				cut = i
				break
			}
		}
		x.mu.Lock()
		for _, r := range string(data[:cut]) {
			x.state(r)
		}
		x.mu.Unlock()
		rest = append([]byte(nil), data[cut:]...)
	}
}

func fullRune(b []byte) bool {
	n := 2
	if b[0] >= 0xf0 {
		n = 4
	} else if b[0] >= 0xe0 {
		n = 3
	}
	return len(b) >= n
}

func (x *terminal) close() {
	_ = x.cmd.Process.Kill()
	_ = x.cmd.Wait()
	_ = x.master.Close()
	<-x.done
}

// keys types.
func (x *terminal) keys(s string) {
	x.t.Helper()
	if _, err := x.master.WriteString(s); err != nil {
		x.t.Fatal(err)
	}
}

// wait waits until the screen shows a text.
func (x *terminal) wait(text string) {
	x.t.Helper()
	for begin := time.Now(); !strings.Contains(x.text(), text); time.Sleep(20 * time.Millisecond) {
		if time.Since(begin) > patience {
			x.t.Fatalf("never on the screen: %q\n%s", text, x.text())
		}
	}
}

// text is the screen without its colours.
func (x *terminal) text() string {
	x.mu.Lock()
	defer x.mu.Unlock()
	var b strings.Builder
	for _, row := range x.cells {
		for _, c := range row {
			if c.r == 0 {
				c.r = ' '
			}
			b.WriteRune(c.r)
		}
		b.WriteByte('\n')
	}
	return b.String()
}

// ground takes what is not in a control sequence.
func (x *terminal) ground(r rune) {
	switch {
	case r == '\x1b':
		x.state = x.escape
	case r == '\r':
		x.col, x.wrapNext = 0, false
	case r == '\n':
		x.down()
	case r == '\b':
		x.col, x.wrapNext = max(0, x.col-1), false
	case r == '\t':
		x.col = min(len(x.cells[0])-1, x.col/8*8+8)
	case r < ' ':
	default:
		x.put(r)
	}
}

func (x *terminal) put(r rune) {
	if x.wrapNext {
		x.col, x.wrapNext = 0, false
		x.down()
	}
	x.cells[x.row][x.col] = cell{r, x.style}
	if x.col == len(x.cells[0])-1 {
		x.wrapNext = true
	} else {
		x.col++
	}
}

func (x *terminal) down() {
	if x.row < len(x.cells)-1 {
		x.row++
		return
	}
	copy(x.cells, x.cells[1:])
	x.cells[x.row] = make([]cell, len(x.cells[0]))
}

func (x *terminal) escape(r rune) {
	x.params = ""
	switch r {
	case '[':
		x.state = x.control
	case ']', 'P', '_', '^':
		x.state = x.text0
	case '(', ')':
		x.state = func(rune) { x.state = x.ground }
	case '7':
		x.savedRow, x.savedCol = x.row, x.col
		x.state = x.ground
	case '8':
		x.row, x.col = x.savedRow, x.savedCol
		x.state = x.ground
	case 'M':
		x.row = max(0, x.row-1)
		x.state = x.ground
	default:
		x.state = x.ground
	}
}

// text0 skips a string up to BEL or ST.
func (x *terminal) text0(r rune) {
	switch r {
	case '\a':
		x.state = x.ground
	case '\x1b':
		x.state = func(rune) { x.state = x.ground }
	}
}

// control collects a control sequence, ECMA-48 5.4.
func (x *terminal) control(r rune) {
	if r < '@' || r > '~' {
		x.params += string(r)
		return
	}
	x.state = x.ground
	x.run(r)
}

// arg is the i-th parameter, or what stands for one that is left out.
func (x *terminal) arg(i, without int) int {
	parts := strings.FieldsFunc(x.params, func(r rune) bool { return r == ';' || r == ':' })
	if i < len(parts) {
		if n, err := strconv.Atoi(parts[i]); err == nil && (n > 0 || without == 0) {
			return n
		}
	}
	return without
}

func (x *terminal) run(final rune) {
	if strings.ContainsAny(x.params, "?><=$ ") {
		if x.params == "?25" {
			x.hideCursor = final == 'l'
		}
		return // modes and questions: nothing to be seen
	}
	height, width := len(x.cells), len(x.cells[0])
	x.wrapNext = x.wrapNext && final == 'm'
	switch final {
	case 'A':
		x.row = max(0, x.row-x.arg(0, 1))
	case 'B', 'e':
		x.row = min(height-1, x.row+x.arg(0, 1))
	case 'C', 'a':
		x.col = min(width-1, x.col+x.arg(0, 1))
	case 'D':
		x.col = max(0, x.col-x.arg(0, 1))
	case 'E':
		x.row, x.col = min(height-1, x.row+x.arg(0, 1)), 0
	case 'F':
		x.row, x.col = max(0, x.row-x.arg(0, 1)), 0
	case 'G', '`':
		x.col = min(width-1, x.arg(0, 1)-1)
	case 'd':
		x.row = min(height-1, x.arg(0, 1)-1)
	case 'H', 'f':
		x.row, x.col = min(height-1, x.arg(0, 1)-1), min(width-1, x.arg(1, 1)-1)
	case 'J':
		x.eraseDisplay()
	case 'K':
		x.eraseLine()
	case 'X':
		clearCells(x.cells[x.row][x.col:min(width, x.col+x.arg(0, 1))])
	case 'P':
		row := x.cells[x.row]
		n := min(width-x.col, x.arg(0, 1))
		copy(row[x.col:], row[x.col+n:])
		clearCells(row[width-n:])
	case '@':
		row := x.cells[x.row]
		n := min(width-x.col, x.arg(0, 1))
		copy(row[x.col+n:], row[x.col:])
		clearCells(row[x.col : x.col+n])
	case 'L', 'M', 'S', 'T':
		x.scroll(final)
	case 'b':
		if last := x.cells[x.row][max(0, x.col-1)]; last.r != 0 {
			for range x.arg(0, 1) {
				x.put(last.r)
			}
		}
	case 'm':
		x.colour()
	case 'r', 'c', 'n', 't', 'h', 'l', 'q', 'u', 's':
	default:
		x.unknown[x.params+string(final)] = true
	}
}

func clearCells(c []cell) {
	for i := range c {
		c[i] = cell{}
	}
}

func (x *terminal) eraseDisplay() {
	switch x.arg(0, 0) {
	case 0:
		clearCells(x.cells[x.row][x.col:])
		for _, row := range x.cells[x.row+1:] {
			clearCells(row)
		}
	case 1:
		for _, row := range x.cells[:x.row] {
			clearCells(row)
		}
		clearCells(x.cells[x.row][:x.col+1])
	default:
		for _, row := range x.cells {
			clearCells(row)
		}
	}
}

func (x *terminal) eraseLine() {
	row := x.cells[x.row]
	switch x.arg(0, 0) {
	case 0:
		clearCells(row[x.col:])
	case 1:
		clearCells(row[:x.col+1])
	default:
		clearCells(row)
	}
}

func (x *terminal) scroll(final rune) {
	first := 0
	if final == 'L' || final == 'M' {
		first = x.row
	}
	rows := x.cells[first:]
	for range min(len(rows), x.arg(0, 1)) {
		if final == 'M' || final == 'S' {
			copy(rows, rows[1:])
			rows[len(rows)-1] = make([]cell, len(x.cells[0]))
		} else {
			copy(rows[1:], rows)
			rows[0] = make([]cell, len(x.cells[0]))
		}
	}
}

// colour is SGR, ECMA-48 8.3.117.
func (x *terminal) colour() {
	p := strings.Split(strings.ReplaceAll(x.params, ":", ";"), ";")
	number := func(i int) int {
		if i >= len(p) {
			return 0
		}
		n, _ := strconv.Atoi(p[i])
		return n
	}
	for i := 0; i < len(p); i++ {
		switch n := number(i); {
		case n == 0:
			x.style = style{}
		case n == 1:
			x.style.bold = true
		case n == 2:
			x.style.faint = true
		case n == 4:
			x.style.underline = true
		case n == 7:
			x.style.reverse = true
		case n == 22:
			x.style.bold, x.style.faint = false, false
		case n == 24:
			x.style.underline = false
		case n == 27:
			x.style.reverse = false
		case n >= 30 && n <= 37:
			x.style.fg = palette(n - 30)
		case n >= 90 && n <= 97:
			x.style.fg = palette(n - 82)
		case n >= 40 && n <= 47:
			x.style.bg = palette(n - 40)
		case n >= 100 && n <= 107:
			x.style.bg = palette(n - 92)
		case n == 39:
			x.style.fg = ""
		case n == 49:
			x.style.bg = ""
		case n == 38 || n == 48:
			c := ""
			if number(i+1) == 5 {
				c = palette(number(i + 2))
				i += 2
			} else {
				c = fmt.Sprintf("#%02x%02x%02x", number(i+2), number(i+3), number(i+4))
				i += 4
			}
			if n == 38 {
				x.style.fg = c
			} else {
				x.style.bg = c
			}
		}
	}
}

// palette is a colour of xterm's 256.
func palette(n int) string {
	basic := [...]string{
		"#1d232a", "#e0685f", "#63b37c", "#d9a441", "#5b9bd5", "#b583d1", "#4db3c4", "#d6dde3",
		"#6b7985", "#ff8b82", "#7fd8a0", "#f1c35f", "#86bdf0", "#d3a4ec", "#7ad5e4", "#ffffff",
	}
	switch {
	case n < 16:
		return basic[n]
	case n < 232:
		n -= 16
		level := func(v int) int { return [...]int{0, 95, 135, 175, 215, 255}[v] }
		return fmt.Sprintf("#%02x%02x%02x", level(n/36), level(n/6%6), level(n%6))
	default:
		v := 8 + (n-232)*10
		return fmt.Sprintf("#%02x%02x%02x", v, v, v)
	}
}

// page is the screen as a page to be photographed.
func (x *terminal) page(title string) string {
	x.mu.Lock()
	defer x.mu.Unlock()
	const fg, bg = "#d6dde3", "#11161b"
	var b strings.Builder
	fmt.Fprintf(&b, `<!doctype html><meta charset="utf-8"><title>%s</title><style>
body { margin: 0; padding: 14px; background: %s; color: %s; width: max-content }
pre { margin: 0; font: 15px/19px "DejaVu Sans Mono", monospace }
</style><pre>`, html.EscapeString(title), bg, fg)
	for r, row := range x.cells {
		for c, one := range row {
			s := one.style
			if !x.hideCursor && r == x.row && c == x.col {
				s.reverse = !s.reverse
			}
			f, g := s.fg, s.bg
			if f == "" {
				f = fg
			}
			if g == "" {
				g = bg
			}
			if s.reverse {
				f, g = g, f
			}
			if s.faint {
				f = "#8b99a4"
			}
			fmt.Fprintf(&b, `<span style="color:%s;background:%s`, f, g)
			if s.bold {
				b.WriteString(";font-weight:bold")
			}
			if s.underline {
				b.WriteString(";text-decoration:underline")
			}
			if one.r == 0 {
				one.r = ' '
			}
			fmt.Fprintf(&b, `">%s</span>`, html.EscapeString(string(one.r)))
		}
		b.WriteByte('\n')
	}
	b.WriteString("</pre>")
	return b.String()
}
