package scsi

import "encoding/binary"

func accessOperations() []operation {
	return []operation{
		{
			name: "REPORT TARGET PORT GROUPS", flags: opService, needs: capAccess,
			usage:  []byte{0xA3, 0xEA, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeReportGroups, run: runReportGroups,
		}, {
			name: "SET TARGET PORT GROUPS", flags: opService | opUrgent, class: accessManage, needs: capSetAccess,
			usage:  []byte{0xA4, 0x0A, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeSetGroups, run: runSetGroups,
		},
	}
}

// reportedStates are the states that can be reported, as the supported bits of
// a descriptor: T_SUP, O_SUP, U_SUP, S_SUP, AN_SUP, AO_SUP. States that depend on
// the logical block (LBD_SUP) there are none.
const reportedStates = 0x80 | 0x40 | 0x08 | 0x04 | 0x02 | 0x01

// Formats of REPORT TARGET PORT GROUPS data: with or without the extended
// header, which tells a transition time.
const (
	groupsLengthOnly = 0x0
	groupsExtended   = 0x1
)

func decodeReportGroups(c *Command) bool {
	c.setAlloc(uint64(binary.BigEndian.Uint32(c.CDB[6:])))
	if c.CDB[1]>>5 > groupsExtended { // PARAMETER DATA FORMAT
		return c.failField(inCDB, 1, 7)
	}
	return true
}

// runReportGroups is SPC-5 6.36.
func runReportGroups(c *Command, _ mode) bool {
	p := c.Nexus.port
	p.mu.Lock()
	g := p.access
	p.mu.Unlock()
	b := zeros(c.build(), 4)
	if c.CDB[1]>>5 == groupsExtended {
		b = append(b, groupsExtended<<4, 0, 0, 0) // IMPLICIT TRANSITION TIME: not told
	}
	if g != nil {
		b = g.appendDescriptors(b)
	}
	binary.BigEndian.PutUint32(b, uint32(len(b)-4))
	c.reply(b)
	return true
}

func (g *portGroups) appendDescriptors(b []byte) []byte {
	for _, x := range g.Groups {
		b = append(b, ifSet(x.Preferred, 0x80)|byte(x.State), reportedStates)
		b = binary.BigEndian.AppendUint16(b, x.ID)
		b = append(b, 0, byte(x.Cause), 0, byte(len(x.Ports)))
		for _, port := range x.Ports {
			b = append(b, 0, 0)
			b = binary.BigEndian.AppendUint16(b, port)
		}
	}
	return b
}

// Sizes of the SET TARGET PORT GROUPS parameter list, SPC-5 6.46.
const (
	setGroupsHead = 4
	setGroupsDesc = 4
	maxSetGroups  = setGroupsHead + setGroupsDesc*256
)

func decodeSetGroups(c *Command) bool {
	n := binary.BigEndian.Uint32(c.CDB[6:])
	c.OutLen = int(n)
	if n > maxSetGroups {
		return c.failField(inCDB, 6, -1)
	}
	return true
}

// runSetGroups is SPC-5 6.46: all descriptors are checked before anything
// changes.
func runSetGroups(c *Command, m mode) bool {
	if c.OutLen == 0 {
		return true // no error, and no change
	}
	if m == inline {
		return false
	}
	p := c.Nexus.port
	p.mu.Lock()
	g := p.access
	p.mu.Unlock()
	changes, ok := c.parseSetGroups(g)
	if !ok {
		return true
	}
	if g.Set != nil {
		if err := g.Set(c.Nexus.itn, changes); err != nil {
			c.Fail(HardwareError, SetTargetPortGroupsErr)
			if report := c.unit.cfg.Report; report != nil {
				report(&Error{Op: c.op.name, Key: HardwareError, ASC: SetTargetPortGroupsErr, Err: err})
			}
			return true
		}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, x := range changes {
		if p.access.group(x.Group) == nil { // gone since
			c.Fail(HardwareError, SetTargetPortGroupsErr)
			return true
		}
	}
	p.changeAccess(changes, AccessExplicit, c.Nexus)
	return true
}

func (c *Command) parseSetGroups(g *portGroups) (changes []AccessChange, ok bool) {
	p := c.Out[:min(len(c.Out), c.OutLen)]
	if len(p) < c.OutLen || len(p) < setGroupsHead || (len(p)-setGroupsHead)%setGroupsDesc != 0 {
		c.Fail(IllegalRequest, ParameterListLengthError)
		return nil, false
	}
	for at := setGroupsHead; at < len(p); at += setGroupsDesc {
		x := AccessChange{binary.BigEndian.Uint16(p[at+2:]), AccessState(p[at] & 0x0F)}
		if !x.State.settable() {
			return nil, c.failField(inParameterList, at, 3)
		}
		if g.group(x.Group) == nil {
			return nil, c.failField(inParameterList, at+2, -1)
		}
		changes = append(changes, x)
	}
	return changes, true
}
