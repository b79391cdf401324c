package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"sync/atomic"

	"github.com/iserd/iserd/luns"
)

// ResourceCounter is a capability of backends that know how much capacity they
// have allocated, and how much they still can.
type ResourceCounter interface {
	// Resources returns bytes. It may block.
	Resources(ctx context.Context) (used, available int64, err error)
}

// thinCheckBytes is how much is written between two looks at the resources.
const thinCheckBytes = 64 << 20

// thinWatch is the soft threshold of a thin unit, SBC-4 4.7.3.7.3: when the part
// in use passes it, every nexus gets THIN PROVISIONING SOFT THRESHOLD REACHED,
// once until it has been below. (Where nothing is left, writes end with DATA
// PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT, which hypervisors take as the
// signal to stop the guest until there is space.)
type thinWatch struct {
	counter ResourceCounter
	percent int64
	since   atomic.Int64 // bytes written since the last look
	looking atomic.Bool
	reached atomic.Bool
}

// watchThin sets up the resources of a thin unit.
func (u *Unit) watchThin() error {
	percent := u.cfg.ThinThreshold
	counter, ok := luns.As[ResourceCounter](u.backend)
	switch {
	case percent < 0 || percent > 99:
		return fmt.Errorf("scsi: thin provisioning threshold of %d %% is not in 0 to 99", percent)
	case percent > 0 && (!ok || u.unmap == nil):
		return errors.New("scsi: a thin provisioning threshold needs a thin unit and a backend that counts its resources")
	case ok && u.unmap != nil:
		u.resources, u.caps = counter, u.caps|capResources
	}
	if percent > 0 {
		u.watch = &thinWatch{counter: counter, percent: int64(percent)}
		u.watch.since.Store(thinCheckBytes) // look at the first write
	}
	return nil
}

// wrote notes n bytes written through p, and every so often has a look taken at
// the resources, on a goroutine of its own, since that may block.
func (u *Unit) wrote(p *Port, n int) {
	w := u.watch
	if w == nil || w.since.Add(int64(n)) < thinCheckBytes || !w.looking.CompareAndSwap(false, true) {
		return
	}
	w.since.Store(0)
	if !u.enter() {
		w.looking.Store(false)
		return
	}
	u.cfg.Spawn(func() {
		defer u.leave()
		defer w.looking.Store(false)
		w.look(u, p)
	})
}

func (w *thinWatch) look(u *Unit, p *Port) {
	used, available, err := w.counter.Resources(u.ctx)
	if err != nil || used+available <= 0 {
		return // advisory; the writes themselves report what is wrong
	}
	above := used >= (used+available)/100*w.percent
	if above && !w.reached.Swap(true) {
		p.Attention(AttentionThinSoftThreshold, nil)
	}
	if !above {
		w.reached.Store(false)
	}
}

// thresholdExponent is the log2 of the blocks in a threshold set, the unit in
// which resources are told, SBC-4 6.6.6: 1 MiB.
func (u *Unit) thresholdExponent() byte {
	if u.resources == nil {
		return 0
	}
	return byte(20 - u.blockShift)
}

// appendThinLog is the Logical Block Provisioning log page, SBC-4 6.4.4.
func appendThinLog(c *Command, from uint16, b []byte) ([]byte, error) {
	used, available, err := c.unit.resources.Resources(c.unit.ctx)
	if err != nil {
		return nil, err
	}
	for i, n := range []int64{available, used} {
		code := uint16(i + 1) // 0001h available, 0002h used
		if code < from {
			continue
		}
		b = binary.BigEndian.AppendUint16(b, code)
		b = append(b, logList, 8)
		b = binary.BigEndian.AppendUint32(b, uint32(min(max(n, 0)>>20, 0xFFFFFFFF)))
		b = append(b, 0x00, 0, 0, 0) // SCOPE: not reported
	}
	return b, nil
}
