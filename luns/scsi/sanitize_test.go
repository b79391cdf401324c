package scsi_test

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
)

// sanitize makes a SANITIZE command; b1 has IMMED (80h) and AUSE (20h).
func sanitize(action, b1 byte, list []byte) (cdb, out []byte) {
	cdb = []byte{0x48, action | b1, 0, 0, 0, 0, 0, 0, 0, 0}
	binary.BigEndian.PutUint16(cdb[7:], uint16(len(list)))
	return cdb, list
}

// overwrite makes the parameter list of OVERWRITE.
func overwrite(b0 byte, pattern ...byte) []byte {
	return slices.Concat([]byte{b0, 0, byte(len(pattern) >> 8), byte(len(pattern))}, pattern)
}

func TestSanitizeOverwrite(t *testing.T) {
	onEach(t, 3*mib+512, baseConfig, func(t *testing.T, r *rig, b *fake) {
		for _, tt := range []struct {
			name string
			list []byte
			want []byte // a block
		}{
			{"block", overwrite(1, fill(512, 0xAA)...), fill(512, 0xAA)},
			{"short", overwrite(1, 1, 2, 3), append(bytes.Repeat([]byte{1, 2, 3}, 170), 1, 2)},
			{"two passes inverted", overwrite(0x82, 0x0F), fill(512, 0xF0)},
			{"three passes inverted", overwrite(0x83, 0x0F), fill(512, 0x0F)},
			{"two passes", overwrite(2, 0x0F), fill(512, 0x0F)},
		} {
			r.good(sanitize(1, 0, tt.list))
			if !bytes.Equal(b.mem, bytes.Repeat(tt.want, len(b.mem)/512)) {
				t.Errorf("%s: differs", tt.name)
			}
		}
	})
}

func TestSanitizeBlockErase(t *testing.T) {
	onEach(t, 3*mib, baseConfig, func(t *testing.T, r *rig, b *fake) {
		r.good(rw10(0x2A, 100, 300), fill(300*512, 7))
		b.log = nil
		r.good(sanitize(2, 0, nil))
		if !bytes.Equal(b.mem, make([]byte, len(b.mem))) || len(b.alloc) != 0 {
			t.Error("not erased")
		}
		// What was written is overwritten, and durable, before it is unmapped.
		if w, f, u := slices.Index(b.log, "write"), slices.Index(b.log, "flush"), slices.Index(b.log, "unmap"); !b.mapper && (w < 0 || f < w || u < f) {
			t.Errorf("order %v", b.log)
		}
	})
}

func TestSanitizeErrors(t *testing.T) {
	b := newFake(mib)
	r := newRig(t, baseConfig, b)
	const key, inCDB, inList = scsi.IllegalRequest, scsi.InvalidFieldInCDB, scsi.InvalidFieldInParamList
	cdb, list := sanitize(1, 0, overwrite(1, fill(512, 1)...))
	for i := 2; i < 7; i++ {
		r.bad(with(cdb, i, 1), list, key, inCDB)
	}
	r.bad(with(cdb, 1, 0x40), list, key, inCDB)
	for n := range 5 {
		cdb, list := sanitize(1, 0, make([]byte, n))
		r.bad(cdb, list, key, inCDB)
	}
	for sa := range byte(0x1F) {
		if sa != 1 && sa != 2 {
			r.bad([]byte{0x48, sa, 0, 0, 0, 0, 0, 0, 0, 0}, nil, key, inCDB)
		}
	}
	for _, tt := range []struct {
		list []byte
		asc  scsi.ASC
	}{
		{overwrite(1, fill(513, 1)...), inCDB},
		{overwrite(0, 1), inList},
		{overwrite(0x21, 1), inList},
		{[]byte{1, 0, 0, 0, 1}, inList},
		{[]byte{1, 0, 0, 2, 1}, inList},
	} {
		cdb, list := sanitize(1, 0, tt.list)
		r.bad(cdb, list, key, tt.asc)
	}
	r.bad(cdb, list[:20], key, scsi.ParameterListLengthError)
	cdb, list = sanitize(2, 0, make([]byte, 8))
	r.bad(cdb, list, key, inCDB)
	cdb, list = sanitize(0x1F, 0, make([]byte, 8))
	r.bad(cdb, list, key, inCDB)
	r.good(sanitize(0x1F, 0, nil))
	for _, op := range b.log {
		t.Errorf("backend saw %s", op)
	}
	ro := baseConfig
	ro.ReadOnly = true
	cdb, list = sanitize(1, 0, overwrite(1, 1))
	newRig(t, ro, newFake(mib)).bad(cdb, list, scsi.DataProtect, scsi.WriteProtected)
}

// holder stops a backend at its first write until it is released.
type holder struct {
	once    sync.Once
	held    chan struct{}
	release chan struct{}
}

func newHolder(b *fake) *holder {
	h := &holder{held: make(chan struct{}), release: make(chan struct{})}
	b.hook = func(op string, off, _ int64) error {
		if op == "write" && off >= mib {
			h.once.Do(func() {
				close(h.held)
				<-h.release
			})
		}
		return nil
	}
	return h
}

// ready waits for a job to end.
func (r *rig) ready() {
	r.tb.Helper()
	for range 2000 {
		if got := r.do(make([]byte, 6), nil); got.status == scsi.Good {
			return
		}
		time.Sleep(time.Millisecond)
	}
	r.tb.Fatal("never ready")
}

// TestSanitizeRunning looks at a logical unit under SANITIZE: who may do what,
// progress, abort of the command, attach, logical unit reset.
func TestSanitizeRunning(t *testing.T) {
	b := newFake(4 * mib)
	r := newRig(t, baseConfig, b)
	h := newHolder(b)
	done := make(chan struct{}, 1)
	cmd := &scsi.Command{Nexus: r.nexus, Done: func(*scsi.Command) { done <- struct{}{} }}
	cmd.CDB, cmd.Out = sanitize(1, 0, overwrite(1, 0x55))
	if !cmd.Decode() || cmd.TryExec() {
		t.Fatal("did not go to a worker")
	}
	cmd.Submit()
	<-h.held

	busy := func(r *rig) {
		t.Helper()
		for _, cdb := range [][]byte{
			make([]byte, 6), rw10(0x28, 0, 1), rw10(0x25, 0, 0), {0x1B, 0, 0, 0, 1, 0}, {0x1A, 0, 0x3F, 0, 255, 0},
		} {
			r.bad(cdb, nil, scsi.NotReady, scsi.SanitizeInProgress)
		}
	}
	busy(r)
	got := r.bad(rw10(0x2A, 0, 1), fill(512, 1), scsi.NotReady, scsi.SanitizeInProgress)
	if p := binary.BigEndian.Uint16(got.sense[16:]); got.sense[15] != 0x80 || p != 0x4000 {
		t.Errorf("progress %#x in % x", p, got.sense)
	}
	cdb, list := sanitize(1, 0x80, overwrite(1, 1))
	r.bad(cdb, list, scsi.NotReady, scsi.SanitizeInProgress)
	r.bad([]byte{4, 0, 0, 0, 0, 0}, nil, scsi.NotReady, scsi.SanitizeInProgress)
	r.bad([]byte{0x48, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0}, nil, scsi.NotReady, scsi.SanitizeInProgress)
	r.good([]byte{0x12, 0, 0, 0, 96, 0}, nil)
	r.good([]byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, nil)
	if in := r.good([]byte{3, 0, 0, 0, 18, 0}, nil); in[2] != 2 || in[12] != 4 || in[13] != 0x1B || in[16] != 0x40 {
		t.Errorf("REQUEST SENSE % x", in)
	}
	n := r.port.Attach(testITN)
	if in := run(t, n, []byte{3, 0, 0, 0, 18, 0}, nil).in; in[12] != 0x29 {
		t.Errorf("REQUEST SENSE % x", in)
	}
	busy(&rig{tb: t, nexus: n})
	n.Detach()

	// An abort ends the command, not the operation.
	cmd.Abort()
	<-done
	if cmd.Status != scsi.TaskAborted {
		t.Errorf("aborted SANITIZE: %v", cmd.Status)
	}
	cmd.Release()
	r.port.Reset()
	drainAttention := r.do(make([]byte, 6), nil)
	if _, asc := drainAttention.key(); asc != scsi.BusDeviceResetOccurred {
		t.Errorf("after the reset: %v", drainAttention)
	}
	busy(r)
	close(h.release)
	r.ready()
	if !bytes.Equal(b.mem, fill(len(b.mem), 0x55)) {
		t.Error("not overwritten")
	}
}

// TestSanitizeStaleWrite: a write that was decoded before SANITIZE began does
// not land after it.
func TestSanitizeStaleWrite(t *testing.T) {
	onEach(t, 2*mib, baseConfig, func(t *testing.T, r *rig, b *fake) {
		done := make(chan struct{}, 1)
		cmd := &scsi.Command{Nexus: r.nexus, Done: func(*scsi.Command) { done <- struct{}{} }}
		cmd.CDB = cdb16(rw10(0x2A, 0, 1))
		if !cmd.Decode() {
			t.Fatal("decode")
		}
		h := newHolder(b)
		if !b.mapper {
			r.good(sanitize(1, 0x80, overwrite(1, 0x55)))
			<-h.held
		} else {
			r.good(sanitize(1, 0, overwrite(1, 0x55)))
		}
		cmd.Out = fill(512, 0xEE)
		if !cmd.TryExec() {
			cmd.Submit()
			<-done
		}
		if !b.mapper && cmd.Status != scsi.CheckCondition {
			t.Errorf("stale write: %v", cmd.Status)
		}
		cmd.Release()
		close(h.release)
		r.ready()
		if !b.mapper && slices.Contains(b.mem, 0xEE) {
			t.Error("landed")
		}
	})
}

// TestSanitizeFailed is the failure mode, restricted and not.
func TestSanitizeFailed(t *testing.T) {
	for _, ause := range []byte{0, 0x20} {
		var reports []*scsi.Error
		cfg, b := baseConfig, newFake(2*mib)
		cfg.Report = func(e *scsi.Error) { reports = append(reports, e) }
		r := newRig(t, cfg, b)
		b.hook = func(op string, off, _ int64) error {
			if op == "write" && off > 0 {
				return luns.ErrMedium
			}
			return nil
		}
		const key, failed = scsi.MediumError, scsi.SanitizeCommandFailed
		cdb, list := sanitize(1, ause, overwrite(1, 1))
		r.bad(cdb, list, key, failed)
		if len(reports) != 1 || !errors.Is(reports[0], luns.ErrMedium) {
			t.Errorf("reports %v", reports)
		}
		b.hook = nil
		r.bad(rw10(0x28, 0, 1), nil, key, failed)
		r.bad(make([]byte, 6), nil, key, failed)
		r.bad([]byte{4, 0, 0, 0, 0, 0}, nil, key, failed)
		exit := []byte{0x48, 0x1F, 0, 0, 0, 0, 0, 0, 0, 0}
		if ause != 0 {
			r.good(exit, nil)
			r.good(rw10(0x28, 0, 1), nil)
			continue
		}
		r.bad(exit, nil, scsi.IllegalRequest, scsi.InvalidFieldInCDB)
		cdb, list = sanitize(1, 0x20, overwrite(1, 1))
		r.bad(cdb, list, scsi.IllegalRequest, scsi.InvalidFieldInCDB)
		r.good(sanitize(1, 0, overwrite(1, 1)))
		r.good(rw10(0x28, 0, 1), nil)
	}
}

// TestSanitizePanic: a panic of the backend is a failed operation.
func TestSanitizePanic(t *testing.T) {
	b := newFake(mib)
	r := newRig(t, baseConfig, b)
	faults := 0
	r.port.Fault = func(any, []byte) { faults++ }
	b.hook = func(op string, _, _ int64) error {
		if op == "write" {
			panic("boom")
		}
		return nil
	}
	cdb, list := sanitize(1, 0, overwrite(1, 1))
	r.bad(cdb, list, scsi.MediumError, scsi.SanitizeCommandFailed)
	if faults != 1 {
		t.Errorf("%d faults", faults)
	}
}

// TestSanitizeRestart: a new unit behind the port goes on with the operation.
func TestSanitizeRestart(t *testing.T) {
	b := newFake(4 * mib)
	r := newRig(t, baseConfig, b)
	h := newHolder(b)
	done := make(chan struct{}, 1)
	cmd := &scsi.Command{Nexus: r.nexus, Done: func(*scsi.Command) { done <- struct{}{} }}
	cmd.CDB, cmd.Out = sanitize(1, 0, overwrite(1, 0x55))
	if !cmd.Decode() {
		t.Fatal("decode")
	}
	cmd.Submit()
	<-h.held
	revoked := make(chan error)
	go func() { revoked <- r.port.Revoke(context.Background()) }()
	for r.do(make([]byte, 6), nil).status != scsi.Busy {
		time.Sleep(time.Millisecond)
	}
	close(h.release)
	if err := <-revoked; err != nil {
		t.Fatal(err)
	}
	<-done
	if cmd.Status != scsi.Busy {
		t.Errorf("interrupted SANITIZE: %v", cmd.Status)
	}
	cmd.Release()
	r.unit.Close()
	if bytes.Equal(b.mem, fill(len(b.mem), 0x55)) {
		t.Fatal("finished before the restart")
	}
	u, err := scsi.NewUnit(baseConfig, b)
	if err != nil {
		t.Fatal(err)
	}
	r.unit = u // the cleanup closes the old one again, which is harmless
	t.Cleanup(u.Close)
	r.port.Publish(u)
	r.ready()
	if !bytes.Equal(b.mem, fill(len(b.mem), 0x55)) {
		t.Error("not overwritten")
	}
}

func TestFormatUnit(t *testing.T) {
	for _, thin := range []bool{true, false} {
		cfg := baseConfig
		cfg.Thin = thin
		onEach(t, 2*mib, cfg, func(t *testing.T, r *rig, b *fake) {
			all := func(x byte) {
				t.Helper()
				if !bytes.Equal(b.mem, fill(len(b.mem), x)) {
					t.Errorf("not all %#x", x)
				}
			}
			r.good(rw10(0x2A, 0, 8), fill(4096, 7))
			r.good([]byte{4, 0, 0, 0, 0, 0}, nil)
			all(0)
			short := []byte{4, 0x10, 0, 0, 0, 0}
			long := []byte{4, 0x30, 0, 0, 0, 0}
			r.good(short, []byte{0, 0x88, 0, 0, 0, 1, 0, 2, 0x33, 0x33})
			all(0x33)
			r.good(long, []byte{0, 0x8A, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 0x44}) // IMMED
			r.ready()
			all(0x44)
			r.good(short, []byte{0, 0x88, 0, 0, 0, 0, 0, 0})
			all(0)
			const key, inList = scsi.IllegalRequest, scsi.InvalidFieldInParamList
			for _, list := range [][]byte{
				{1, 0, 0, 0},                         // protection
				{0, 0x08, 0, 0, 0, 1, 0, 1, 1},       // IP without FOV
				{0, 0, 0, 8},                         // defect list
				{0, 0x88, 0, 0, 0, 2, 0, 1, 1},       // pattern type
				{0, 0x88, 0, 0, 0, 1, 0, 0},          // no pattern
				{0, 0x88, 0, 0, 0, 1, 2, 1, 1},       // longer than a block
				{0, 0x88, 0, 0, 0x80, 1, 0, 1, 1, 1}, // obsolete bits
			} {
				r.bad(short, list, key, inList)
			}
			r.bad(long, []byte{0, 0, 0, 0, 0, 0, 0, 8}, key, inList)
			r.bad(long, []byte{0, 0, 0, 1, 0, 0, 0, 0}, key, inList)
			for _, list := range [][]byte{{0, 0, 0}, {0, 0x88, 0, 0, 0, 1, 0}, {0, 0x88, 0, 0, 0, 1, 0, 2, 1}} {
				r.bad(short, list, key, scsi.ParameterListLengthError)
			}
			r.bad([]byte{4, 0x80, 0, 0, 0, 0}, nil, key, scsi.InvalidFieldInCDB)
			r.bad([]byte{4, 0x08, 0, 0, 0, 0}, nil, key, scsi.InvalidFieldInCDB)
			all(0)
		})
	}
}

// TestFormatFailed: only another format mends a failed one.
func TestFormatFailed(t *testing.T) {
	b := newFake(mib)
	r := newRig(t, baseConfig, b)
	b.hook = func(string, int64, int64) error { return luns.ErrMedium }
	format := []byte{4, 0, 0, 0, 0, 0}
	r.bad(format, nil, scsi.MediumError, scsi.FormatCommandFailed)
	b.hook = nil
	r.bad(rw10(0x28, 0, 1), nil, scsi.MediumError, scsi.MediumFormatCorrupted)
	r.good(format, nil)
	r.good(rw10(0x28, 0, 1), nil)
}

// FuzzSanitize runs any SANITIZE and FORMAT UNIT with any parameter list.
func FuzzSanitize(f *testing.F) {
	f.Add([]byte{0x48, 1, 0, 0, 0, 0, 0, 0, 5, 0}, overwrite(1, 9))
	f.Add([]byte{0x48, 2, 0, 0, 0, 0, 0, 0, 0, 0}, []byte(nil))
	f.Add([]byte{0x04, 0x10, 0, 0, 0, 0}, []byte{0, 0x8A, 0, 0, 0, 1, 0, 1, 1})
	f.Add([]byte{0x04, 0x30, 0, 0, 0, 0}, []byte{0, 0x88, 0, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1})
	r := newRig(f, baseConfig, newFake(64<<10))
	f.Fuzz(func(t *testing.T, cdb, out []byte) {
		if len(cdb) < 6 || len(cdb) > 16 || cdb[0] != 0x48 && cdb[0] != 0x04 {
			return
		}
		(&rig{tb: t, nexus: r.nexus}).ready()
		run(t, r.nexus, cdb, out)
	})
}
