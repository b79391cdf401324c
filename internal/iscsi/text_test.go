package iscsi_test

import (
	"fmt"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/internal/iscsi"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// exchange sends a text in pieces of n bytes and collects the whole answer, as
// an initiator does: C bit while there is more, F bit at the end, and empty
// requests while the answer has the C bit.
func (r *rig) exchange(request string, n int) string {
	r.t.Helper()
	r.tag++
	tag, ttt := r.tag, pdu.ReservedTag
	var answer strings.Builder
	for turn := range 1000 {
		piece := request[:min(n, len(request))]
		request = request[len(piece):]
		more := len(request) > 0
		r.receive(&pdu.TextRequest{
			Immediate: turn%2 == 0, Final: !more, Continue: more, InitiatorTaskTag: tag, TargetTransferTag: ttt, CmdSN: r.cmdSN,
		}, []byte(piece), false, nil)
		if turn%2 != 0 {
			r.cmdSN++
		}
		o := r.one(pdu.OpTextResponse)
		var p pdu.TextResponse
		if err := p.Decode(&o.bhs); err != nil || p.InitiatorTaskTag != tag {
			r.t.Fatalf("%+v, %v", p, err)
		}
		if limit := r.c.Params().InitiatorMaxRecvDataSegmentLength; len(o.data) > limit {
			r.t.Fatalf("%d bytes, the initiator takes %d", len(o.data), limit)
		}
		if more && (len(o.data) > 0 || p.Final || p.Continue) {
			r.t.Fatalf("answer in the middle of the request: %+v", p)
		}
		if p.Final && (p.Continue || p.TargetTransferTag != pdu.ReservedTag) || !p.Final && p.TargetTransferTag == pdu.ReservedTag {
			r.t.Fatalf("%+v", p)
		}
		answer.Write(o.data)
		if p.Final {
			return answer.String()
		}
		ttt = p.TargetTransferTag
	}
	r.t.Fatal("no end of the answer")
	return ""
}

// TestText sends requests of every length and cut, and takes answers in pieces.
func TestText(t *testing.T) {
	var many []iscsi.TargetRecord
	var want []text.Pair
	for i := range 200 {
		rec := iscsi.TargetRecord{Name: fmt.Sprintf("iqn.2026-11.com.example:target-%03d", i), Addresses: []string{"192.0.2.1:3260,1", "[2001:db8::1]:3260,2"}}
		many = append(many, rec)
		want = append(want, text.Pair{Key: "TargetName", Value: rec.Name})
		for _, a := range rec.Addresses {
			want = append(want, text.Pair{Key: "TargetAddress", Value: a})
		}
	}
	for _, n := range []int{1, 2, 7, 16, 512, 8192} {
		for _, discovery := range []bool{true, false} {
			t.Run(fmt.Sprintf("pieces of %d, discovery %v", n, discovery), func(t *testing.T) {
				r := newRig(t, options{mapped: true, discovery: discovery, keys: []string{"MaxRecvDataSegmentLength=512"}})
				r.take()
				r.targets = many
				var got []text.Pair // more than text.Parse takes from a peer
				for kv := range strings.SplitSeq(strings.TrimSuffix(r.exchange("SendTargets=All\x00", n), "\x00"), "\x00") {
					key, value, _ := strings.Cut(kv, "=")
					got = append(got, text.Pair{Key: key, Value: value})
				}
				if !discovery {
					if diff := cmp.Diff([]text.Pair{{Key: "SendTargets", Value: "Reject"}}, got); diff != "" {
						t.Error(diff)
					}
					return
				}
				if diff := cmp.Diff(want, got); diff != "" {
					t.Error(diff)
				}
			})
		}
	}
}

// TestTextKeys are the answers to single keys, RFC 7143 §13.
func TestTextKeys(t *testing.T) {
	target := iscsi.TargetRecord{Name: "iqn.2026-11.com.example:t", Addresses: []string{"192.0.2.1:3260,1"}}
	record := "TargetName=" + target.Name + "\x00TargetAddress=192.0.2.1:3260,1\x00"
	for _, tt := range []struct {
		request, want string
		discovery     bool
	}{
		{"", "", false},
		{"SendTargets=\x00", record, false},
		{"SendTargets=\x00", "SendTargets=Reject\x00", true},
		{"SendTargets=" + target.Name + "\x00", record, false},
		{"SendTargets=" + target.Name + "\x00", record, true},
		{"SendTargets=iqn.2026-11.com.example:other\x00", "", false},
		{"X-com.example.key=1\x00", "X-com.example.key=NotUnderstood\x00", false},
		{"MaxRecvDataSegmentLength=4096\x00", "", false},
		{"MaxRecvDataSegmentLength=511\x00", "MaxRecvDataSegmentLength=Reject\x00", false},
		{"MaxRecvDataSegmentLength=16777216\x00", "MaxRecvDataSegmentLength=Reject\x00", false},
		{"MaxRecvDataSegmentLength=x\x00", "MaxRecvDataSegmentLength=Reject\x00", false},
		{"InitiatorAlias=me\x00", "", false},
	} {
		t.Run(fmt.Sprintf("%.40q discovery %v", tt.request, tt.discovery), func(t *testing.T) {
			r := newRig(t, options{mapped: true, discovery: tt.discovery})
			r.take()
			r.targets = []iscsi.TargetRecord{target}
			if diff := cmp.Diff(tt.want, r.exchange(tt.request, 8192)); diff != "" {
				t.Error(diff)
			}
		})
	}
}

// TestTextWrong are texts and headers that are refused; the connection goes on.
func TestTextWrong(t *testing.T) {
	send := func(r *rig, p pdu.TextRequest, data string) {
		p.Immediate, p.CmdSN = true, r.cmdSN
		r.receive(&p, []byte(data), false, nil)
	}
	for _, tt := range []struct {
		name string
		p    pdu.TextRequest
		data string
		want pdu.RejectReason
	}{
		{"no equals sign", pdu.TextRequest{Final: true, InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag}, "nonsense\x00", pdu.RejectProtocolError},
		{"no NUL", pdu.TextRequest{Final: true, InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag}, "SendTargets=All", pdu.RejectProtocolError},
		{"F and C", pdu.TextRequest{Final: true, Continue: true, InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag}, "", pdu.RejectInvalidPDUField},
		{"unknown tag", pdu.TextRequest{Final: true, InitiatorTaskTag: 1, TargetTransferTag: 5}, "", pdu.RejectInvalidPDUField},
		{"reserved tag", pdu.TextRequest{Final: true, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: pdu.ReservedTag}, "", pdu.RejectInvalidPDUField},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := newRig(t, options{mapped: true})
			send(r, tt.p, tt.data)
			r.rejected(tt.want)
			r.exchange("SendTargets=\x00", 100)
		})
	}
	t.Run("endless", func(t *testing.T) {
		r := newRig(t, options{mapped: true})
		ttt := pdu.ReservedTag
		for range 1000 {
			send(r, pdu.TextRequest{Continue: true, InitiatorTaskTag: 1, TargetTransferTag: ttt}, strings.Repeat("x", 8192))
			o := r.take()[0]
			if o.bhs.Opcode() == pdu.OpReject {
				r.exchange("SendTargets=\x00", 100)
				return
			}
			ttt = o.bhs.TargetTransferTag()
		}
		t.Error("8 MB of text were taken")
	})
	t.Run("a new exchange ends the old one", func(t *testing.T) {
		r := newRig(t, options{mapped: true, keys: []string{"MaxRecvDataSegmentLength=512"}})
		for i := range 100 {
			r.targets = append(r.targets, iscsi.TargetRecord{Name: fmt.Sprint("iqn.2026-11.com.example:", i), Addresses: []string{"a:1,1"}})
		}
		send(r, pdu.TextRequest{Continue: true, InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag}, "X-com.example.a=")
		r.one(pdu.OpTextResponse)
		if got := r.exchange("X-com.example.b=1\x00", 100); got != "X-com.example.b=NotUnderstood\x00" {
			t.Errorf("%q", got)
		}
	})
	t.Run("the initiator is not done", func(t *testing.T) {
		// F=0 without C: the target may not end the exchange, §11.11.1.
		r := newRig(t, options{mapped: true})
		send(r, pdu.TextRequest{InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag}, "X-com.example.b=1\x00")
		o := r.one(pdu.OpTextResponse)
		if o.bhs.Final() || string(o.data) != "X-com.example.b=NotUnderstood\x00" {
			t.Fatalf("% x %q", o.bhs, o.data)
		}
		send(r, pdu.TextRequest{Final: true, InitiatorTaskTag: 1, TargetTransferTag: o.bhs.TargetTransferTag()}, "")
		if o := r.one(pdu.OpTextResponse); !o.bhs.Final() || len(o.data) > 0 {
			t.Fatalf("% x %q", o.bhs, o.data)
		}
	})
}
