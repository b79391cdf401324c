package scsi_test

import (
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"pgregory.net/rapid"

	"github.com/iserd/iserd/luns/scsi"
)

// modelTask is a command of the model: what SAM-6 8 says about it.
type modelTask struct {
	c         *scsi.Command
	ended     chan struct{} // Done was called
	done      bool
	submitted bool
	enabled   bool
}

func (m *modelTask) String() string {
	return fmt.Sprintf("{attr %d enabled %t submitted %t done %t}", m.c.Attr, m.enabled, m.submitted, m.done)
}

// modelSet is the task set as the standard has it, in order of arrival.
type modelSet []*modelTask

// update applies the rules: a HEAD OF QUEUE command is enabled at once, a SIMPLE one
// when there is no HEAD OF QUEUE command and no older ORDERED one, an ORDERED one
// when there is no HEAD OF QUEUE command and nothing older. What is enabled stays so.
func (s modelSet) update() {
	heads := slices.ContainsFunc(s, func(m *modelTask) bool { return m.c.Attr == scsi.AttrHeadOfQueue })
	older, barrier := false, false
	for _, m := range s {
		switch m.c.Attr {
		case scsi.AttrHeadOfQueue:
			m.enabled = true
		case scsi.AttrOrdered:
			m.enabled = m.enabled || !heads && !older
			older, barrier = true, true
		default:
			m.enabled = m.enabled || !heads && !barrier
			older = true
		}
	}
}

// check compares with what has run.
func (s modelSet) check(t *rapid.T) {
	s.update()
	for _, m := range s {
		switch {
		case !m.submitted || m.done:
		case m.enabled:
			select {
			case <-m.ended:
				m.done = true
			case <-time.After(10 * time.Second):
				t.Fatalf("%v does not run in %v", m, s)
			}
		default:
			select {
			case <-m.ended:
				t.Fatalf("%v has run in %v", m, s)
			default:
			}
		}
	}
}

// pick draws one of the commands that match.
func (s modelSet) pick(t *rapid.T, ok func(*modelTask) bool) *modelTask {
	some := slices.DeleteFunc(slices.Clone(s), func(m *modelTask) bool { return !ok(m) })
	if len(some) == 0 {
		t.Skip("none")
	}
	return rapid.SampledFrom(some).Draw(t, "which")
}

// TestTaskSetModel runs commands with all task attributes of several nexuses against
// the model: at every moment those may run that the standard lets, and no others.
func TestTaskSetModel(t *testing.T) {
	r := newPRRig(t, baseConfig, 18) // more than there are counters
	rapid.Check(t, func(t *rapid.T) {
		var set modelSet
		end := func(m *modelTask) {
			m.c.Release()
			set = slices.DeleteFunc(set, func(x *modelTask) bool { return x == m })
		}
		abort := func(m *modelTask) {
			if !m.c.Abort() || m.c.Status != scsi.TaskAborted {
				t.Fatalf("%v has begun in %v", m, set)
			}
			end(m)
		}
		t.Repeat(map[string]func(*rapid.T){
			"": func(t *rapid.T) { set.check(t) },
			"arrive": func(t *rapid.T) {
				m := &modelTask{ended: make(chan struct{})}
				m.c = &scsi.Command{
					Nexus: r.n[rapid.IntRange(0, len(r.n)-1).Draw(t, "nexus")], CDB: cdb16(make([]byte, 6)),
					Attr: rapid.SampledFrom([]uint8{0, 1, 1, 1, 2, 3}).Draw(t, "attr"),
					Done: func(*scsi.Command) { close(m.ended) },
				}
				if !m.c.Decode() {
					t.Fatal(m.c.Status)
				}
				set = append(set, m)
			},
			"run": func(t *rapid.T) {
				m := set.pick(t, func(m *modelTask) bool { return !m.submitted })
				m.submitted, m.done = true, m.c.TryExec()
				if m.done != m.enabled {
					t.Fatalf("TryExec of %v in %v", m, set)
				}
				if !m.done {
					m.c.Submit()
				}
			},
			"end": func(t *rapid.T) {
				end(set.pick(t, func(m *modelTask) bool { return m.done || !m.submitted }))
			},
			"abort": func(t *rapid.T) {
				abort(set.pick(t, func(m *modelTask) bool { return m.submitted && !m.done }))
			},
		})
		for len(set) > 0 {
			set.check(t)
			if m := set[len(set)-1]; m.submitted && !m.done {
				abort(m)
			} else {
				end(m)
			}
		}
	})
}

// TestTaskAttributes: an attribute that there is not, ACA among them, is refused;
// the command is not in the set.
func TestTaskAttributes(t *testing.T) {
	r := newPRRig(t, baseConfig, 1)
	for attr := range uint8(8) {
		c := &scsi.Command{Nexus: r.n[0], CDB: cdb16(make([]byte, 6)), Attr: attr}
		ok := c.Decode()
		if ok != (attr <= scsi.AttrHeadOfQueue) {
			t.Errorf("attribute %d: %t", attr, ok)
		}
		if !ok && (c.Status != scsi.CheckCondition || c.Sense[2] != 5 || c.Sense[12] != 0x49) {
			t.Errorf("attribute %d: %v, sense % x", attr, c.Status, c.Sense)
		}
		c.Release()
	}
	ordered := start(t, r.n[0], make([]byte, 6), nil)
	<-ordered.done
	ordered.c.Release()
}

// TestOrderedStress: while an ORDERED command is in the backend, no other command of
// any nexus is, except HEAD OF QUEUE ones, and everything comes to an end.
func TestOrderedStress(t *testing.T) {
	const nexuses, each = 6, 400
	var running atomic.Int64
	r := newPRRig(t, baseConfig, nexuses)
	var wg sync.WaitGroup
	for i := range nexuses {
		wg.Go(func() {
			rnd := rand.New(rand.NewPCG(uint64(i), 7))
			for k := range each {
				attr := []uint8{1, 1, 1, 1, 1, 1, 2, 3}[rnd.IntN(8)]
				done := make(chan struct{}, 1)
				c := &scsi.Command{
					Nexus: r.n[i], CDB: cdb16(rw10(0x28, uint32(rnd.IntN(1000)), 1)), Attr: attr, Buf: make([]byte, 512),
					Done: func(*scsi.Command) { done <- struct{}{} },
				}
				if !c.Decode() {
					t.Error(c.Status)
					return
				}
				switch {
				case rnd.IntN(10) == 0: // given up
				case c.TryExec():
				default:
					c.Submit()
					if rnd.IntN(4) == 0 && c.Abort() {
						break
					}
					<-done
				}
				// It is enabled, and in the set until Release.
				if c.Status == scsi.Good && attr != scsi.AttrHeadOfQueue && c.In != nil {
					n := running.Add(1)
					if attr == scsi.AttrOrdered && n != 1 {
						t.Errorf("nexus %d, command %d: ORDERED beside %d others", i, k, n-1)
					}
					running.Add(-1)
				}
				c.Release()
			}
		})
	}
	wg.Wait()
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	if err := r.port.Revoke(ctx); err != nil {
		t.Error(err)
	}
}
