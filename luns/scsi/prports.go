package scsi

import "slices"

// allTargetPorts returns every target port, own first; nil if they are not
// known.
func (p *Port) allTargetPorts(own uint16) []uint16 {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.access == nil {
		return nil
	}
	ports := []uint16{own}
	for _, g := range p.access.Groups {
		for _, x := range g.Ports {
			if x != own {
				ports = append(ports, x)
			}
		}
	}
	return ports
}

// knowsTargetPort reports whether there is such a target port, as far as groups
// and sessions tell.
func (p *Port) knowsTargetPort(port uint16) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := range p.nexuses {
		if n.id.port == port {
			return true
		}
	}
	if p.access == nil {
		return false
	}
	return slices.ContainsFunc(p.access.Groups, func(g TargetPortGroup) bool { return slices.Contains(g.Ports, port) })
}

// initiatorPorts returns the initiator ports that a TransportID names: one
// without ISID those of the device that are logged in, SPC-5 7.6.4.7. The
// target port in the results has no meaning.
func (p *Port) initiatorPorts(t transportID) (ids []nexusID) {
	if !t.anyPort {
		return []nexusID{{name: t.name, isid: t.isid}}
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	for n := range p.nexuses {
		id := nexusID{name: n.id.name, isid: n.id.isid}
		if id.name == t.name && !slices.Contains(ids, id) {
			ids = append(ids, id)
		}
	}
	return ids
}
