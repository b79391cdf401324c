//go:build linux && cgo && (amd64 || arm64)

package native

/*
#cgo LDFLAGS: -ldl -lpthread
#cgo nocallback vs_poll
#cgo nocallback vs_wait
#cgo noescape vs_arm
#cgo nocallback vs_arm
#cgo nocallback vs_post_send
#cgo nocallback vs_post_recv
#include <stdlib.h>
#include "shim.h"
*/
import "C"

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// maxDevices is how many adapters a machine can have for us.
const maxDevices = 128

// Provider uses the adapters of the machine. All methods may be called by any
// goroutine.
type Provider struct {
	once sync.Once
	lib  *C.struct_vs_lib // nil when it could not be loaded
	err  error            // why

	mu      sync.Mutex
	devices map[*C.struct_vs_context]*device
	watcher chan struct{} // closed to end watch; nil while there was no device
}

var _ verbs.Provider = (*Provider)(nil)

// New returns the provider. It loads nothing yet.
func New() *Provider {
	return &Provider{devices: make(map[*C.struct_vs_context]*device)}
}

// Name is "native".
func (p *Provider) Name() string { return "native" }

// load loads the libraries, once.
func (p *Provider) load() error {
	p.once.Do(func() {
		why := (*[256]C.char)(C.calloc(1, 256))
		defer C.free(pointer(why))
		if p.lib = C.vs_load(&why[0], 256); p.lib == nil {
			p.err = fmt.Errorf("native: %w: %s; install the Debian packages %s",
				verbs.ErrUnavailable, C.GoString(&why[0]), packages)
		}
	})
	return p.err
}

// Devices lists the adapters that are there now.
func (p *Provider) Devices() ([]verbs.Device, error) {
	if err := p.load(); err != nil {
		return nil, err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	cause := p.refresh()
	var out []verbs.Device
	for _, d := range slices.SortedFunc(maps.Values(p.devices), func(a, b *device) int { return strings.Compare(a.name, b.name) }) {
		if d.usable() {
			out = append(out, d)
		}
	}
	if len(out) == 0 {
		return nil, diagnose(systemRoot, cause)
	}
	return out, nil
}

// refresh makes p.devices what the libraries know now. p.mu is held.
func (p *Provider) refresh() error {
	p.sweep()
	if len(p.devices) > 0 && !settled(systemRoot) {
		return nil
	}
	list := (*[maxDevices]*C.struct_vs_context)(C.calloc(maxDevices, C.size_t(sizePointer)))
	defer C.free(pointer(list))
	n := C.vs_devices(p.lib, &list[0], maxDevices)
	if n < 0 {
		return errno(n)
	}
	var err error
	for _, ctx := range list[:n] {
		if p.devices[ctx] != nil {
			C.vs_device_put(p.lib, ctx) // one reference is enough
			continue
		}
		d, derr := newDevice(p, ctx)
		if derr != nil {
			C.vs_device_put(p.lib, ctx)
			err = derr
			continue
		}
		p.devices[ctx] = d
	}
	if p.watcher == nil && len(p.devices) > 0 {
		p.watcher = make(chan struct{})
		go p.watch(p.watcher)
	}
	return err
}

// sweep forgets the devices that are gone, unless they are in use: their users
// learn of it themselves. p.mu is held.
func (p *Provider) sweep() {
	for _, d := range p.devices {
		if !d.present() && d.end(true) {
			p.forget(d)
		}
	}
}

// watch sweeps now and then, until stop is closed: the kernel waits with the
// removal of some devices until nobody has them open.
func (p *Provider) watch(stop <-chan struct{}) {
	tick := time.NewTicker(lookAgain)
	defer tick.Stop()
	for {
		select {
		case <-stop:
			return
		case <-tick.C:
			p.mu.Lock()
			p.sweep()
			p.mu.Unlock()
		}
	}
}

// device is the device that ctx, of an id, stands for.
func (p *Provider) device(ctx *C.struct_vs_context) (*device, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if d := p.devices[ctx]; d != nil {
		return d, nil
	}
	err := p.refresh() // came after the last look
	if d := p.devices[ctx]; d != nil {
		return d, nil
	}
	return nil, errors.Join(verbs.ErrNoDevice, err)
}

// forget frees a device that has ended and that nothing uses. p.mu is held.
func (p *Provider) forget(d *device) {
	d.mu.Lock()
	idle := d.refs == 0
	if idle {
		d.ended = true // nobody holds it from now on
	}
	d.mu.Unlock()
	if !idle || p.devices[d.ctx] != d {
		return
	}
	delete(p.devices, d.ctx)
	d.free()
}

// Close frees the devices. The libraries stay loaded.
func (p *Provider) Close() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.watcher != nil {
		close(p.watcher)
		p.watcher = nil
	}
	var errs []error
	for _, d := range p.devices {
		if !d.end(false) {
			errs = append(errs, fmt.Errorf("native: %s is in use", d.name))
			continue
		}
		p.forget(d)
	}
	return errors.Join(errs...)
}

// errno makes an error of a negative errno, nil of 0.
func errno(n C.int) error {
	if n >= 0 {
		return nil
	}
	return syscall.Errno(-n)
}
