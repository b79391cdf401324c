package scsi

// PoisonScratch fills the command's own buffer with x, as an earlier command
// of another initiator could have.
func (c *Command) PoisonScratch(x byte) {
	c.scratch = make([]byte, 8192)
	for i := range c.scratch {
		c.scratch[i] = x
	}
}
