package tcp

// Parked reports whether the last turn found the socket empty or full.
func (t *Turn) Parked() bool { return t.park }

// Paused reports whether the last turn found too much unsent.
func (t *Turn) Paused() bool { return t.pause }

// FlushTurn returns a turn of the flusher.
func FlushTurn() *Turn { return &Turn{flush: true} }

// Unsent is how many bytes wait for the socket, and Sending how many tasks are
// in the queue with their data.
func (c *Conn) Unsent() int { return c.tx.bytes }

// Sending is how many tasks are in the send queue with their data.
func (c *Conn) Sending() int { return len(c.tx.tasks) }

// Transfers is how many tasks have R2Ts out.
func (c *Conn) Transfers() int { return len(c.transfers.byTag) }
