package tcp_test

import (
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
)

// TestTraffic: every PDU is counted once, whichever way it takes, and those with a
// wrong digest are counted apart.
func TestTraffic(t *testing.T) {
	const large = 64 << 10
	start := &stream{}
	start.login(digests[3]...)
	start.tur() // its unit attention
	start.tur()
	start.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: blk}, write10(0, 1), nil, pattern(blk, 1))
	start.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: large}, write10(0, large/blk), nil, pattern(large, 2))
	start.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: blk}, []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 1, 0}, nil, nil)
	prefix := start.take()
	start.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: blk}, write10(0, 1), nil, pattern(blk, 9))
	victim := start.take()

	for name, x := range map[string]struct {
		flip         int // byte of the last command; -1: none
		header, data uint64
		pdus         map[pdu.Opcode]uint64
	}{
		"right":  {-1, 0, 0, map[pdu.Opcode]uint64{pdu.OpSCSICommand: 6, pdu.OpSCSIResponse: 5}},
		"header": {40, 1, 0, map[pdu.Opcode]uint64{pdu.OpSCSICommand: 5, pdu.OpSCSIResponse: 4}},
		"data":   {pdu.BHSLen + 4 + 100, 0, 1, map[pdu.Opcode]uint64{pdu.OpSCSICommand: 5, pdu.OpSCSIResponse: 4, pdu.OpReject: 1}},
	} {
		t.Run(name, func(t *testing.T) {
			r := newRig(t, newDisk(t), nil)
			last := append([]byte(nil), victim...)
			if x.flip >= 0 {
				last[x.flip] ^= 1
			}
			err := r.send(append(append([]byte(nil), prefix...), last...))
			if (err == nil) != (x.flip < 0) {
				t.Fatal(err)
			}
			r.drain()
			r.engine.Publish()
			r.engine.Publish() // nothing is counted twice
			var got, want iscsi.TrafficTotals
			r.seen.AddTo(&got)
			want.HeaderDigests, want.DataDigests = x.header, x.data
			for op, n := range x.pdus {
				want.PDUs[op] = n
			}
			want.PDUs[pdu.OpLoginRequest], want.PDUs[pdu.OpLoginResponse], want.PDUs[pdu.OpDataIn] = 1, 1, 1
			if d := cmp.Diff(want, got); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
}
