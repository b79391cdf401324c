package iscsi

import "github.com/iserd/iserd/luns/scsi"

// Tick notes that a batch of PDUs, or of commands that workers have finished,
// begins now. Its owner calls it once for each batch: commands of a batch are
// taken to have arrived together, so that a command need not look at the clock.
func (c *Conn) Tick() { c.batch = scsi.Nanotime() }

// measure counts a task that is being answered.
func (c *Conn) measure(t *Task) {
	bytes := t.got
	if !t.write {
		bytes = min(t.actual, t.readLimit())
	}
	if c.tracer != nil {
		c.trace(t, bytes, false)
	}
	if t.meter.End(&t.Command, c.batch, bytes) {
		c.counted.nexuses = append(c.counted.nexuses, t.Nexus)
	}
}
