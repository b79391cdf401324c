package iserd_test

import (
	"bytes"
	"testing"
	"time"

	"github.com/iserd/iserd"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/pdu"
)

// TestRDMADevices: what is held of a device, and how often it reported something, is
// told while there are connections; PDUs over iSER are counted as those over TCP.
func TestRDMADevices(t *testing.T) {
	srv, _, addr := startISER(t)
	usage := func() []iserd.RDMADevice {
		t.Helper()
		d, err := srv.RDMADevices(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return d
	}
	if d := usage(); len(d) != 0 {
		t.Errorf("before the first connection: %+v", d)
	}
	s := connectISER(t, addr, rdma.Options{}, nil)
	ready(t, s)
	data := bytes.Repeat([]byte{7}, 4096)
	before, traffic := usage(), srv.Traffic()
	const n = 20
	for range n {
		if r, err := s.Exec(t.Context(), 0, cdb10(write10, 0, 8), data, 0); err != nil || r.Status != 0 {
			t.Fatal(err, r)
		}
	}
	after := usage()
	if len(before) != 1 || len(after) != 1 {
		t.Fatalf("%+v, %+v", before, after)
	}
	d := after[0]
	if d.QueuePairs != 1 || d.CompletionQueues != 1 || d.MemoryRegions < 1 || d.Registered < d.InUse || d.InUse == 0 || len(d.Failed) != 0 {
		t.Errorf("%+v", d)
	}
	if grown := d.Completions - before[0].Completions; grown < n {
		t.Errorf("%d completions for %d commands", grown, n)
	}
	for end := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		now := srv.Traffic()
		commands, answers := now.PDUs[pdu.OpSCSICommand]-traffic.PDUs[pdu.OpSCSICommand], now.PDUs[pdu.OpSCSIResponse]-traffic.PDUs[pdu.OpSCSIResponse]
		if commands >= n && answers >= n && now.PDUs[pdu.OpDataOut] == 0 && now.PDUs[pdu.OpR2T] == 0 {
			break
		}
		if time.Now().After(end) {
			t.Fatalf("%d commands, %d answers, %v", commands, answers, now)
		}
	}
	s.Close()
	quiet(t, srv)
	if d := usage(); len(d) != 1 || d[0].QueuePairs != 0 {
		t.Errorf("after the last connection: %+v", d)
	}
}
