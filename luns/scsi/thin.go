package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"
	"sync/atomic"

	"github.com/iserd/iserd/luns"
)

// thinWatch is the soft threshold of a thin unit, SBC-4 4.7.3.7.3: when the part
// in use passes it, every nexus gets THIN PROVISIONING SOFT THRESHOLD REACHED,
// once until it has been below. (Where nothing is left, writes end with DATA
// PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT, which hypervisors take as the
// signal to stop the guest until there is space.)
type thinWatch struct {
	counter luns.ResourceCounter
	percent int64
	total   atomic.Int64 // bytes in use and available, at the last look
	since   atomic.Int64 // bytes written since then
	looking atomic.Bool
	reached atomic.Bool
}

// watchThin sets up the resources of a thin unit.
func (u *Unit) watchThin() error {
	percent := u.cfg.ThinThreshold
	counter, ok := luns.As[luns.ResourceCounter](u.backend)
	switch {
	case percent < 0 || percent > 99:
		return fmt.Errorf("scsi: thin provisioning threshold of %d %% is not in 0 to 99", percent)
	case percent > 0 && (!ok || u.unmap == nil):
		return errors.New("scsi: a thin provisioning threshold needs a thin unit and a backend that counts its resources")
	case ok && u.unmap != nil:
		u.resources, u.caps = counter, u.caps|capResources
	}
	if percent > 0 {
		used, available, err := counter.Resources(context.Background())
		if err != nil {
			return fmt.Errorf("scsi: resources of a thin unit: %w", err)
		}
		u.watch, u.caps = &thinWatch{counter: counter, percent: int64(percent)}, u.caps|capThreshold
		u.watch.total.Store(used + available)
		u.watch.since.Store(math.MaxInt32) // look at the first write
	}
	return nil
}

// interval is how many bytes are written between two looks: one in 128 of all.
func (w *thinWatch) interval() int64 { return min(max(w.total.Load()/128, 1<<20), 64<<20) }

// bound is the number of bytes in use that reaches the threshold.
func (w *thinWatch) bound() int64 { return w.total.Load() / 100 * w.percent }

// wrote notes n bytes written through p, and every so often has a look taken at
// the resources, on a goroutine of its own, since that may block.
func (u *Unit) wrote(p *Port, n int) {
	w := u.watch
	if w == nil || w.since.Add(int64(n)) < w.interval() || !w.looking.CompareAndSwap(false, true) {
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
	w.total.Store(used + available)
	above := used >= w.bound()
	if above && !w.reached.Swap(true) {
		p.Attention(AttentionThinSoftThreshold, nil)
		if told := u.cfg.Threshold; told != nil {
			told(used, used+available)
		}
	}
	if !above {
		w.reached.Store(false)
	}
}

// provisioningPage is the Logical Block Provisioning mode page, SBC-4 6.5.9: one
// threshold, of the resources in use, that every I_T nexus is told (SITUA 0).
func provisioningPage(u *Unit) []byte {
	p := make([]byte, 24)
	p[0], p[1], p[3] = 0x1C|0x40, 0x02, 0x14
	p[16] = 0x80 | 0x01 // ENABLED, a soft threshold by count, armed when increasing
	p[17] = 0x02        // used LBA mapping resources
	binary.BigEndian.PutUint32(p[20:], uint32(min(u.watch.bound()>>20, math.MaxUint32)))
	return p
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
