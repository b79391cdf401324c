package iscsi

// Window gives tests the command window by itself.
type Window struct{ w window }

// NewWindow returns a window that expects cmdSN next.
func NewWindow(cmdSN, depth uint32) *Window {
	return &Window{window{expCmdSN: cmdSN, depth: depth}}
}

// Take places a command, as inTurn does, and returns those that run by it.
func (w *Window) Take(cmdSN uint32) (run []uint32) {
	switch w.w.place(cmdSN) {
	case outside:
	case early:
		w.w.hold(heldPDU{cmdSN: cmdSN})
	default:
		w.w.expCmdSN++
		w.w.active++
		run = append(run, cmdSN)
		for {
			p, ok := w.w.next()
			if !ok {
				break
			}
			w.w.expCmdSN++
			w.w.active++
			run = append(run, p.cmdSN)
		}
	}
	return run
}

// Answer ends one command.
func (w *Window) Answer() { w.w.active-- }

// Active is the number of commands that run.
func (w *Window) Active() uint32 { return w.w.active }

// Exp and Max are ExpCmdSN and MaxCmdSN.
func (w *Window) Exp() uint32 { return w.w.expCmdSN }

// Max is MaxCmdSN.
func (w *Window) Max() uint32 { return w.w.maxCmdSN() }

// Held are the CmdSNs that wait for their turn.
func (w *Window) Held() (out []uint32) {
	for _, p := range w.w.held {
		out = append(out, p.cmdSN)
	}
	return out
}

// Clone returns a copy that shares nothing.
func (w *Window) Clone() *Window {
	c := *w
	c.w.held = append([]heldPDU(nil), w.w.held...)
	return &c
}

// SetWindow moves the numbering of a logged-in connection.
func (c *Conn) SetWindow(expCmdSN uint32) { c.session.window.expCmdSN = expCmdSN }

// SetStatSN moves the numbering of the answers.
func (c *Conn) SetStatSN(n uint32) { c.statSN = n }

// Tasks is the number of tasks that the connection knows by tag.
func (c *Conn) Tasks() int { return len(c.tasks) }

// HeldPDUs is the number of PDUs that wait for their turn.
func (c *Conn) HeldPDUs() int { return len(c.session.window.held) }

// SetDatamover replaces the datamover.
func (c *Conn) SetDatamover(d Datamover) { c.dm = d }
