package iser

import "golang.org/x/sys/unix"

// place is where a pump's thread runs: on the CPUs that are near its device, so
// that what comes from it need not be handed to another CPU (ADR 12). Whoever
// confines the daemon to some CPUs has the last word.
type place struct {
	near, all unix.CPUSet
	confined  bool
}

// newPlace is for the calling thread. Without near CPUs, or with none that the
// thread may run on, or all of them, the place is anywhere.
func newPlace(near []int) place {
	var p place
	if len(near) == 0 || unix.SchedGetaffinity(0, &p.all) != nil {
		return p
	}
	for _, cpu := range near {
		if p.all.IsSet(cpu) {
			p.near.Set(cpu)
		}
	}
	n := p.near.Count()
	p.confined = n > 0 && n < p.all.Count()
	return p
}

// take confines the calling thread. That it is refused costs speed alone.
func (p *place) take() {
	if p.confined {
		_ = unix.SchedSetaffinity(0, &p.near)
	}
}

// leave gives the calling thread back as it was, before other goroutines run on it
// or it starts threads, which inherit its CPUs.
func (p *place) leave() {
	if p.confined {
		_ = unix.SchedSetaffinity(0, &p.all)
	}
}
