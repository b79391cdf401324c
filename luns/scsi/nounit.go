package scsi

// noUnitConfig is what INQUIRY shows where there is no logical unit.
var noUnitConfig = Config{}

// ExecNoUnit performs a command whose LUN leads to no logical unit of the I_T
// nexus. inventory is what REPORT LUNS lists. c.Nexus is not used. The command
// is finished on return, with OutLen zero; Release is not needed.
//
// SPC-5 6.7.1, 6.33 and 6.39: INQUIRY, REPORT LUNS and REQUEST SENSE work at
// any LUN; all others end with LOGICAL UNIT NOT SUPPORTED. The REPORT LUNS well
// known logical unit takes TEST UNIT READY as well.
func ExecNoUnit(c *Command, lun uint64, inventory []uint16) {
	c.clear()
	if len(c.CDB) < 6 {
		c.Fail(IllegalRequest, InvalidOperationCode)
		return
	}
	switch wellKnown := lun == reportLUNsWLUN; c.CDB[0] {
	case 0x12:
		c.inquireNoUnit(wellKnown)
	case 0x03:
		c.senseNoUnit(wellKnown)
	case 0xA0:
		if len(c.CDB) < 12 {
			c.Fail(IllegalRequest, InvalidFieldInCDB)
			return
		}
		if decodeReportLUNs(c) {
			c.reply(appendLUNs(c.build(), c.CDB[2], inventory))
		}
	case 0x00:
		if !wellKnown {
			c.Fail(IllegalRequest, LUNotSupported)
		}
	default:
		if wellKnown {
			c.Fail(IllegalRequest, InvalidOperationCode)
			return
		}
		c.Fail(IllegalRequest, LUNotSupported)
	}
}

// inquireNoUnit answers INQUIRY: standard data and the list of VPD pages,
// which has only itself.
func (c *Command) inquireNoUnit(wellKnown bool) {
	if !decodeInquiry(c) {
		return
	}
	peripheral := byte(typeNone)
	if wellKnown {
		peripheral = typeWellKnown
	}
	if c.CDB[1]&0x01 == 0 {
		c.reply(appendStandardInquiry(c.build(), peripheral, &noUnitConfig))
		return
	}
	if c.CDB[2] != 0 {
		c.failField(inCDB, 2, -1)
		return
	}
	c.reply(append(c.build(), peripheral, 0, 0, 1, 0))
}

func (c *Command) senseNoUnit(wellKnown bool) {
	decodeRequestSense(c)
	s := senseInfo{key: IllegalRequest, asc: LUNotSupported}
	if wellKnown {
		s = senseInfo{}
	}
	c.reply(s.append(c.build(), c.CDB[1]&0x01 != 0))
}
