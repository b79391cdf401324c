package verbstest

import (
	"context"
	"errors"
	"os"
	"slices"
	"testing"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// Link is what a test of hot-plugging does to the device that has
// Config.Target.
type Link struct {
	Remove func() error // the device goes away; may wait until it is not in use
	Add    func() error // and comes back
	Down   func() error // its port goes down
	Up     func() error // and up
}

// RunRemoval takes the target's device away under a connection, twice, and
// gives it back. All that was made from it can be closed, nothing is left
// behind, and the new device works.
func RunRemoval(t *testing.T, c Config, link Link) {
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	var fds [3]int
	for n := range fds {
		t.Run("Removal", func(t *testing.T) { testRemoval(newEnv(t, c), link) })
		fds[n] = openFiles(t)
	}
	if fds[2] != fds[1] {
		t.Errorf("open files after each removal: %v", fds)
	}
	t.Run("Port", func(t *testing.T) { testPort(newEnv(t, c), link) })
}

func openFiles(t *testing.T) int {
	t.Helper()
	list, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(list)
}

// deviceEvents collects d's events until it is closed or the test ends.
func (e *env) deviceEvents(d verbs.Device) <-chan verbs.DeviceEvent {
	out := make(chan verbs.DeviceEvent, 256)
	ctx, cancel := context.WithCancel(context.Background())
	go func() {
		defer close(out)
		for {
			ev, err := d.NextEvent(ctx)
			if err != nil {
				if !errors.Is(err, verbs.ErrClosed) && ctx.Err() == nil {
					e.Errorf("NextEvent: %v", err)
				}
				return
			}
			out <- ev
		}
	}()
	e.Cleanup(func() {
		cancel()
		for range out {
		}
	})
	return out
}

// deviceEvent waits for an event of this kind.
func (e *env) deviceEvent(events <-chan verbs.DeviceEvent, kind verbs.DeviceEventKind) verbs.DeviceEvent {
	e.Helper()
	var found verbs.DeviceEvent
	e.until("device event "+kind.String(), func() bool {
		select {
		case found = <-events:
			return found.Kind == kind
		default:
			return false
		}
	})
	return found
}

// listed reports whether the provider lists d.
func (e *env) listed(d verbs.Device) bool {
	e.Helper()
	list, err := e.c.Provider.Devices()
	if !errors.Is(err, verbs.ErrNoDevice) && !errors.Is(err, verbs.ErrUnavailable) {
		e.check(err, "Devices")
	}
	return slices.Contains(list, d)
}

func testRemoval(e *env, link Link) {
	l := e.listen()
	d := l.Device()
	events := e.deviceEvents(d)
	t, i := e.connect(l)
	removed := make(chan error, 1)
	go func() { removed <- link.Remove() }()
	e.target.event(t.conn, verbs.EventDeviceRemoval)
	e.until("event of the listener", func() bool {
		for _, ev := range e.target.got {
			if ev.Listener == l && ev.Kind == verbs.EventDeviceRemoval {
				return true
			}
		}
		return false
	})
	e.deviceEvent(events, verbs.DeviceFatal)
	if e.listed(d) {
		e.Error("the device is still listed")
	}
	_, err := d.Register(t.mem, verbs.AccessLocalWrite)
	e.wantErr(err, verbs.ErrNoDevice, "Register with a removed device")
	e.check(t.conn.Disconnect(), "Disconnect")
	t.close()
	e.check(l.Close(), "close listener")
	e.target.closeCQ()
	sameDevice := i.conn.Device() == d
	i.close()
	if sameDevice {
		e.initiator.closeCQ()
	}
	// Nothing of the device is left: its events end.
	e.until("the end of the device's events", func() bool {
		select {
		case _, open := <-events:
			return !open
		default:
			return false
		}
	})
	select {
	case err := <-removed:
		e.check(err, "remove the device")
	case <-time.After(e.c.Timeout):
		e.Fatal("the device is still in use")
	}

	e.check(link.Add(), "add the device")
	t, i = e.pair()
	if !e.listed(t.conn.Device()) || t.conn.Device() == d {
		e.Error("the new device is not listed, or is the old one")
	}
	i.post(i.msg(1, "back again"))
	e.same(t.received(), "back again")
}

// closeCQ closes the side's CQ before its end.
func (s *side) closeCQ() {
	s.e.Helper()
	s.e.check(s.cq.Close(), s.name+": close CQ")
	s.cq = nil
}

func testPort(e *env, link Link) {
	d := e.listen().Device()
	events := e.deviceEvents(d)
	port := func(want verbs.PortState) {
		e.Helper()
		ports, err := d.Ports()
		e.check(err, "Ports")
		if ports[0].State != want {
			e.Errorf("port is %v, want %v", ports[0].State, want)
		}
	}
	port(verbs.PortActive)
	e.check(link.Down(), "port down")
	if ev := e.deviceEvent(events, verbs.DevicePortDown); ev.Port != 1 {
		e.Errorf("%+v, want port 1", ev)
	}
	port(verbs.PortDown)
	e.check(link.Up(), "port up")
	e.deviceEvent(events, verbs.DevicePortActive)
	port(verbs.PortActive)
}
