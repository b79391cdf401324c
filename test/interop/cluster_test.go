package interop_test

import (
	"context"
	"encoding/binary"
	"fmt"
	"path/filepath"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

// Reservation types, SPC-5 table 69.
const (
	writeExclusive                = 1
	exclusiveAccess               = 3
	writeExclusiveRegistrantsOnly = 5
	exclusiveAccessRegistrants    = 6
	writeExclusiveAllRegistrants  = 7
	exclusiveAccessAllRegistrants = 8
)

// Service actions of PERSISTENT RESERVE OUT, SPC-5 table 226.
const (
	prRegister       = 0
	prReserve        = 1
	prRelease        = 2
	prClear          = 3
	prPreempt        = 4
	prRegisterIgnore = 6
)

// What a command ends with: "GOOD", "CONFLICT", or sense key, additional sense
// code and its qualifier.
const (
	good                   = "GOOD"
	conflict               = "CONFLICT"
	reservationsPreempted  = "6/2A/03"
	reservationsReleased   = "6/2A/04"
	registrationsPreempted = "6/2A/05"
)

// clusterNode is one initiator of a cluster, with its session.
type clusterNode struct {
	name string
	key  uint64
	s    *initiator.Session
}

// cluster is three nodes that register, and a stranger that does not.
type cluster struct {
	t     *testing.T
	d     *target.Daemon
	nodes []*clusterNode
}

const stranger = 3

func newCluster(t *testing.T) *cluster {
	c := &cluster{t: t, d: target.Start(t, target.Config{
		StateDir: true,
		LUNs:     []target.LUN{{Size: 16 * mib, Path: filepath.Join(t.TempDir(), "quorum")}},
	})}
	for i := range 4 {
		c.nodes = append(c.nodes, &clusterNode{name: fmt.Sprintf("node%d", i), key: 0x1000_0000_0000_0001 * uint64(i+1)})
	}
	c.login()
	t.Cleanup(c.logout)
	return c
}

func (c *cluster) login() {
	c.t.Helper()
	for i, n := range c.nodes {
		ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
		defer cancel()
		conn, err := initiator.Dial(ctx, c.d.Portal())
		if err != nil {
			c.t.Fatal(err)
		}
		n.s, err = initiator.Login(ctx, conn, initiator.Options{
			TargetName: target.IQN, InitiatorName: "iqn.2026-11.io.github.iserd:" + n.name,
			ISID: pdu.ISID{0x80, 0, 0, 0, 0, byte(i)},
		})
		if err != nil {
			c.t.Fatal(err)
		}
		c.attentions(i)
	}
}

func (c *cluster) logout() {
	for _, n := range c.nodes {
		_ = n.s.Close()
	}
}

// restart kills the daemon; the nodes log in again.
func (c *cluster) restart() {
	c.t.Helper()
	c.d.Kill()
	c.logout()
	c.d.Restart()
	c.login()
}

// do sends a command of node i and returns how it ended and its data.
func (c *cluster) do(i int, cdb, out []byte, in int) (string, []byte) {
	c.t.Helper()
	ctx, cancel := context.WithTimeout(c.t.Context(), 20*time.Second)
	defer cancel()
	r, err := c.nodes[i].s.Exec(ctx, pdu.LUNOf(uint16(c.d.LUN(0))), cdb, out, in)
	if err != nil {
		c.t.Fatalf("%s: % X: %v", c.nodes[i].name, cdb, err)
	}
	return outcome(r), r.Data
}

// outcome is how a command ended.
func outcome(r *initiator.Result) string {
	switch key, asc, ascq, ok := initiator.DecodeSense(r.Sense); {
	case r.Status == 0:
		return good
	case r.Status == 0x18:
		return conflict
	case ok:
		return fmt.Sprintf("%X/%02X/%02X", key, asc, ascq)
	default:
		return fmt.Sprintf("status %02X", r.Status)
	}
}

// attentions reads all unit attentions of a node.
func (c *cluster) attentions(i int) (list []string) {
	c.t.Helper()
	for range 20 {
		got, _ := c.do(i, make([]byte, 6), nil, 0)
		if got == good {
			return list
		}
		list = append(list, got)
	}
	c.t.Fatalf("%s: unit attentions without end: %v", c.nodes[i].name, list)
	return nil
}

// told fails the test unless these are the unit attentions of the nodes.
func (c *cluster) told(when string, want ...[]string) {
	c.t.Helper()
	for i, w := range want {
		if diff := cmp.Diff(w, c.attentions(i)); diff != "" {
			c.t.Errorf("after %s, %s (-want +got)\n%s", when, c.nodes[i].name, diff)
		}
	}
}

// out is PERSISTENT RESERVE OUT with APTPL, SPC-5 6.16.
func (c *cluster) out(i, action, kind int, key, actionKey uint64) string {
	c.t.Helper()
	list := make([]byte, 24)
	binary.BigEndian.PutUint64(list, key)
	binary.BigEndian.PutUint64(list[8:], actionKey)
	if action == prRegister || action == prRegisterIgnore {
		list[20] = 1 // APTPL
	}
	got, _ := c.do(i, []byte{0x5F, byte(action), byte(kind), 0, 0, 0, 0, 0, 24, 0}, list, 0)
	return got
}

func (c *cluster) must(got, want, what string, args ...any) {
	c.t.Helper()
	if got != want {
		c.t.Errorf("%s: %s, want %s", fmt.Sprintf(what, args...), got, want)
	}
}

// keys are READ KEYS in ascending order, SPC-5 6.15.2.
func (c *cluster) keys() (keys []uint64) {
	c.t.Helper()
	got, data := c.do(0, []byte{0x5E, 0, 0, 0, 0, 0, 0, 4, 0, 0}, nil, 1024)
	if got != good {
		c.t.Fatalf("READ KEYS: %s", got)
	}
	for d := data[8:]; len(d) >= 8; d = d[8:] {
		keys = append(keys, binary.BigEndian.Uint64(d))
	}
	slices.Sort(keys)
	return keys
}

// reservation is READ RESERVATION: type 0 for none, SPC-5 6.15.3.
func (c *cluster) reservation() (kind int, key uint64) {
	c.t.Helper()
	got, data := c.do(0, []byte{0x5E, 1, 0, 0, 0, 0, 0, 4, 0, 0}, nil, 1024)
	if got != good {
		c.t.Fatalf("READ RESERVATION: %s", got)
	}
	if len(data) < 24 {
		return 0, 0
	}
	return int(data[21] & 0x0F), binary.BigEndian.Uint64(data[8:])
}

func (c *cluster) registered(want ...int) {
	c.t.Helper()
	var keys []uint64
	for _, i := range want {
		keys = append(keys, c.nodes[i].key)
	}
	if diff := cmp.Diff(keys, c.keys()); diff != "" {
		c.t.Errorf("READ KEYS (-want +got)\n%s", diff)
	}
}

// held fails the test unless node holder has the reservation, and every node
// may read and write what the type lets it: SPC-5 table 70, SBC-4 table 13.
func (c *cluster) held(when string, kind, holder int, registered ...int) {
	c.t.Helper()
	wantKey := c.nodes[holder].key
	if kind >= writeExclusiveAllRegistrants {
		wantKey = 0 // SPC-5 6.15.3.2: all registrants hold it
	}
	if got, key := c.reservation(); got != kind || key != wantKey {
		c.t.Errorf("%s: type %d with key %#x, want type %d with key %#x", when, got, key, kind, wantKey)
	}
	block := make([]byte, 512)
	for i, n := range c.nodes {
		member := i == holder || kind >= writeExclusiveRegistrantsOnly && slices.Contains(registered, i)
		write, read := conflict, conflict
		if member {
			write = good
		}
		if member || kind == writeExclusive || kind == writeExclusiveRegistrantsOnly || kind == writeExclusiveAllRegistrants {
			read = good
		}
		got, _ := c.do(i, []byte{0x2A, 0, 0, 0, 0, byte(i), 0, 0, 1, 0}, block, 0)
		c.must(got, write, "%s: WRITE of %s", when, n.name)
		got, _ = c.do(i, []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, nil, 512)
		c.must(got, read, "%s: READ of %s", when, n.name)
	}
}

// A failover cluster's validation with three nodes, after ClusPrep of MS-CSVP
// (register, reserve, defend, preempt, unregister), for each type, with the
// daemon killed in the middle.
func TestClusterValidation(t *testing.T) {
	lab.Gate(t)
	for _, kind := range []int{
		writeExclusive, exclusiveAccess, writeExclusiveRegistrantsOnly,
		exclusiveAccessRegistrants, writeExclusiveAllRegistrants, exclusiveAccessAllRegistrants,
	} {
		t.Run(fmt.Sprintf("type=%d", kind), func(t *testing.T) {
			c := newCluster(t)
			c.reserveAndDefend(kind)
			c.preempt(kind)
			c.release(kind)
			c.clear(kind)
		})
	}
}

// reserveAndDefend: all register, node 0 reserves, and holds the reservation
// against the others, also after the daemon was killed.
func (c *cluster) reserveAndDefend(kind int) {
	c.t.Helper()
	key := func(i int) uint64 { return c.nodes[i].key }
	for i := range 3 {
		c.must(c.out(i, prRegisterIgnore, 0, 0, key(i)), good, "REGISTER AND IGNORE EXISTING KEY of node %d", i)
	}
	c.registered(0, 1, 2)
	c.must(c.out(0, prReserve, kind, key(0), 0), good, "RESERVE")
	c.must(c.out(0, prReserve, kind, key(0), 0), good, "RESERVE again")
	second := conflict
	if kind >= writeExclusiveAllRegistrants {
		second = good // SPC-5 5.14.10: it is a holder, and asks for the same
	}
	c.must(c.out(1, prReserve, kind, key(1), 0), second, "RESERVE of node 1")
	c.must(c.out(1, prReserve, 9-kind, key(1), 0), conflict, "RESERVE with another type")
	c.must(c.out(stranger, prReserve, kind, 0, 0), conflict, "RESERVE of a stranger")
	c.must(c.out(1, prRegister, 0, 99, 1), conflict, "REGISTER with another's key")
	c.held("reserved", kind, 0, 0, 1, 2)
	c.told("reserving", nil, nil, nil, nil)

	c.restart()
	c.registered(0, 1, 2)
	c.held("after the restart", kind, 0, 0, 1, 2)
}

// preempt: node 1 takes over from node 0, as when node 0 hangs.
func (c *cluster) preempt(kind int) {
	c.t.Helper()
	key := func(i int) uint64 { return c.nodes[i].key }
	all := kind >= writeExclusiveAllRegistrants
	victim := key(0)
	if all {
		victim = 0 // SPC-5 5.14.11.4.4: everybody else
	}
	c.must(c.out(stranger, prPreempt, kind, 0, key(0)), conflict, "PREEMPT of a stranger")
	c.must(c.out(1, prPreempt, kind, key(1), victim), good, "PREEMPT")
	block := make([]byte, 512)
	got, _ := c.do(0, []byte{0x2A, 0, 0, 0, 0, 0, 0, 0, 1, 0}, block, 0)
	c.must(got, conflict, "WRITE of the preempted node")
	registered := []int{1, 2}
	if all {
		registered = []int{1}
		c.told("PREEMPT", []string{registrationsPreempted}, nil, []string{registrationsPreempted}, nil)
	} else {
		c.told("PREEMPT", []string{registrationsPreempted}, nil, nil, nil)
	}
	c.registered(registered...)
	c.held("preempted", kind, 1, registered...)

	c.restart()
	c.held("preempted and restarted", kind, 1, registered...)
	for i := range 3 {
		c.must(c.out(i, prRegisterIgnore, 0, 0, key(i)), good, "REGISTER AND IGNORE EXISTING KEY of node %d", i)
	}
	c.held("registered again", kind, 1, 0, 1, 2)
}

// release: node 1 gives the reservation up, and all unregister.
func (c *cluster) release(kind int) {
	c.t.Helper()
	key := func(i int) uint64 { return c.nodes[i].key }
	if kind < writeExclusiveAllRegistrants { // SPC-5 5.14.11.2.1: GOOD, and nothing is released
		c.must(c.out(2, prRelease, kind, key(2), 0), good, "RELEASE of another than the holder")
		c.held("not released", kind, 1, 0, 1, 2)
	}
	c.must(c.out(1, prRelease, 9-kind, key(1), 0), "5/26/04", "RELEASE with another type")
	c.must(c.out(1, prRelease, kind, key(1), 0), good, "RELEASE")
	if kind >= writeExclusiveRegistrantsOnly {
		c.told("RELEASE", []string{reservationsReleased}, nil, []string{reservationsReleased}, nil)
	} else {
		c.told("RELEASE", nil, nil, nil, nil)
	}
	if got, _ := c.reservation(); got != 0 {
		c.t.Errorf("type %d after RELEASE", got)
	}
	for i := range 3 {
		c.must(c.out(i, prRegister, 0, key(i), 0), good, "unregister of node %d", i)
	}
	c.registered()
}

// clear: what is left over is cleaned up by any registrant, and stays so.
func (c *cluster) clear(kind int) {
	c.t.Helper()
	key := func(i int) uint64 { return c.nodes[i].key }
	for i := range 3 {
		c.must(c.out(i, prRegister, 0, 0, key(i)), good, "REGISTER of node %d", i)
	}
	c.must(c.out(0, prReserve, kind, key(0), 0), good, "RESERVE")
	c.must(c.out(2, prClear, 0, key(2), 0), good, "CLEAR")
	c.told("CLEAR", []string{reservationsPreempted}, []string{reservationsPreempted}, nil, nil)
	c.registered()
	c.restart()
	c.registered()
	if got, _ := c.reservation(); got != 0 {
		c.t.Errorf("type %d after CLEAR and a restart", got)
	}
}
