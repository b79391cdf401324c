package actors

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/iserd/iserd/actors/runtime"
	"github.com/iserd/iserd/luns/scsi"
)

// troubleInterval is the least time between two lines of the log about the same
// logical unit: a disk that has died fails thousands of commands in a second.
const troubleInterval = 10 * time.Second

// trouble gathers the commands of a logical unit that failed in its backend, for
// the log. Initiators have got the sense data; the cause is for the administrator.
type trouble struct {
	mu    sync.Mutex
	count int
	last  *scsi.Error
	due   bool // a message is on its way, or a timer runs
}

// Messages of a LUN about its backend.
type (
	commandsFailed   struct{}
	thresholdReached struct{ used, total int64 }
)

// watch has the unit report to the LUN's actor.
func (l *LUN) watch(u *scsi.Config) {
	u.Report = func(e *scsi.Error) {
		if errors.Is(e.Err, context.Canceled) {
			return // the logical unit is being closed
		}
		if l.trouble.add(e) {
			l.n.sys.Send(l.ref, commandsFailed{})
		}
	}
	u.Threshold = func(used, total int64) { l.n.sys.Send(l.ref, thresholdReached{used, total}) }
}

// add notes a failed command; true asks the caller to send for take.
func (t *trouble) add(e *scsi.Error) bool {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count++
	t.last = e
	first := !t.due
	t.due = true
	return first
}

// take returns what has come together, and whether there is anything: if not, the
// next command that fails is told at once.
func (t *trouble) take() (count int, last *scsi.Error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	count, last = t.count, t.last
	t.count, t.last = 0, nil
	t.due = count > 0
	return count, last
}

// reset forgets what the last incarnation left, whose timer is gone with it.
func (t *trouble) reset() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.count, t.last, t.due = 0, nil, false
}

// failed writes what has failed since the last time into the log.
func (a *lunActor) failed(ctx runtime.Context) {
	count, e := a.l.trouble.take()
	if count == 0 {
		return
	}
	ctx.Log().Error("commands failed in the backend", "count", count,
		"last", e.Op, "lba", e.LBA, "sense", e.Key.String()+" "+e.ASC.String(), "reason", e.Err)
	ctx.After(troubleInterval, commandsFailed{})
}

func (m thresholdReached) log(ctx runtime.Context) {
	ctx.Log().Warn("thin provisioning threshold reached: make room in the store of the backend, or grow it",
		"used_bytes", m.used, "total_bytes", m.total)
}
