package ffp_test

import (
	"bytes"
	"context"
	"slices"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/pdu"
)

// TestFullFeaturePhase is everything after the login.
func TestFullFeaturePhase(t *testing.T) { runPlan(t, fullFeaturePlan) }

// solicited is a session in which all data waits for R2Ts, in bursts of 4096.
func (x *run) solicited() *conn {
	x.Helper()
	return x.ready("InitialR2T=Yes", "ImmediateData=No", "MaxBurstLength=4096", "MaxOutstandingR2T=1")
}

var fullFeaturePlan = []test{
	{"1.1", "command numbering", func(x *run) {
		c := x.ready()
		for range 10 {
			if r := c.good(c.tur()); r.ExpCmdSN != c.cmdSN {
				x.Fatalf("ExpCmdSN %d, want %d", r.ExpCmdSN, c.cmdSN)
			}
		}
		second := c.command(pdu.SCSICommand{Final: true, CmdSN: c.cmdSN + 1}, make([]byte, 6), nil)
		c.ping() // is answered first: the command waits for its predecessor
		first := c.tur()
		c.good(first)
		if r := c.good(second); r.ExpCmdSN != c.cmdSN+1 {
			x.Errorf("ExpCmdSN %d, want %d", r.ExpCmdSN, c.cmdSN+1)
		}
	}},
	{"2.1", "immediate delivery of a command", func(x *run) {
		c := x.ready()
		for range 3 {
			if r := c.good(c.command(pdu.SCSICommand{Final: true, Immediate: true}, make([]byte, 6), nil)); r.ExpCmdSN != c.cmdSN {
				x.Fatalf("an immediate command uses up CmdSN: %d, want %d", r.ExpCmdSN, c.cmdSN)
			}
		}
		c.good(c.tur())
	}},
	{"2.2", "immediate delivery of task management", func(x *run) {
		c := x.ready()
		c.tag++
		c.send(&pdu.TaskManagementRequest{Immediate: true, Function: pdu.AbortTaskSet, InitiatorTaskTag: c.tag, ReferencedTaskTag: pdu.ReservedTag, CmdSN: c.cmdSN}, nil)
		p := c.expect(pdu.OpTaskManagementResponse)
		if p.BHS[2] != byte(pdu.FunctionComplete) || p.BHS.ExpCmdSN() != c.cmdSN {
			x.Errorf("response %d, ExpCmdSN %d, want %d", p.BHS[2], p.BHS.ExpCmdSN(), c.cmdSN)
		}
	}},
	{"3.1", "commands beyond MaxCmdSN are ignored", func(x *run) {
		c := x.ready()
		c.ping()
		for _, off := range []uint32{1, 2, 1000, 1 << 30} {
			c.command(pdu.SCSICommand{Final: true, CmdSN: c.window + off}, make([]byte, 6), nil)
			c.ping()
		}
		c.good(c.tur())
	}},
	{"3.2", "a window that is used up", func(x *run) {
		c := x.ready()
		c.ping()
		var tags []uint32
		for c.cmdSN != c.window+1 {
			tags = append(tags, c.tur())
		}
		for _, tag := range tags {
			c.good(tag)
		}
	}},
	{"3.3", "a window of one command", func(x *run) {
		y := x.another(iserd.Limits{CommandWindow: 1})
		c := y.ready("InitialR2T=Yes", "ImmediateData=No")
		if n := c.ping(); n.MaxCmdSN != c.cmdSN {
			x.Fatalf("MaxCmdSN %d with CmdSN %d", n.MaxCmdSN, c.cmdSN)
		}
		tag, r := c.startWrite(0, blk)
		if r.MaxCmdSN != c.cmdSN-1 {
			x.Fatalf("MaxCmdSN %d while the window is closed", r.MaxCmdSN)
		}
		c.command(pdu.SCSICommand{Final: true, CmdSN: c.cmdSN}, make([]byte, 6), nil)
		c.ping() // it was ignored
		c.dataOut(tag, r.TargetTransferTag, 0, 0, make([]byte, blk), true)
		if r := c.good(tag); r.MaxCmdSN != c.cmdSN {
			x.Errorf("MaxCmdSN %d after the answer", r.MaxCmdSN)
		}
		c.good(c.tur())
	}},
	{"4.1", "a command that is sent again", func(x *run) {
		c := x.ready()
		tag := c.tur()
		c.good(tag)
		c.command(pdu.SCSICommand{Final: true, CmdSN: c.cmdSN - 1}, make([]byte, 6), nil)
		c.ping()
		c.good(c.tur())
	}},
	{"5.1", "StatSN and ExpStatSN", func(x *run) {
		c := x.ready()
		next := c.expStatSN
		for range 5 {
			if r := c.good(c.tur()); r.StatSN != next {
				x.Fatalf("StatSN %d, want %d", r.StatSN, next)
			}
			next++
		}
		c.expStatSN -= 3 // the target need not do anything about it
		c.good(c.tur())
	}},
	{"6.1", "DataSN", func(x *run) {
		c := x.ready("MaxRecvDataSegmentLength=512", "MaxBurstLength=2048")
		for range 2 { // from 0 in each command
			pdus, data := c.dataIn(c.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 8 * blk}, read10(0, 8), nil))
			if len(pdus) != 8 || len(data) != 8*blk {
				x.Fatalf("%d PDUs, %d bytes", len(pdus), len(data))
			}
			for i, d := range pdus {
				if d.DataSN != uint32(i) || d.BufferOffset != uint32(i*blk) || d.DataLen != blk || d.Final != (i%4 == 3) {
					x.Errorf("Data-In %d: %+v", i, d)
				}
			}
		}
		c.solicitedNumbers()
	}},
	{"7.1", "task reassignment", func(x *run) {
		c := x.ready()
		c.tag++
		c.send(&pdu.TaskManagementRequest{Immediate: true, Function: pdu.TaskReassign, InitiatorTaskTag: c.tag, ReferencedTaskTag: 1, CmdSN: c.cmdSN}, nil)
		if p := c.expect(pdu.OpTaskManagementResponse); p.BHS[2] != byte(pdu.TaskReassignmentNotSupported) {
			x.Errorf("response %d", p.BHS[2])
		}
	}},
	{"8.1", "unsolicited data", func(x *run) {
		c := x.ready("InitialR2T=No", "ImmediateData=No", "FirstBurstLength=4096")
		data := pattern(4096, x.Name())
		tag := c.command(pdu.SCSICommand{Write: true, ExpectedDataTransferLength: 4096}, write10(100, 8), nil)
		c.dataOut(tag, pdu.ReservedTag, 0, 0, data[:1000], false)
		c.dataOut(tag, pdu.ReservedTag, 1, 1000, data[1000:], true)
		c.good(tag)
		c.holds(100, data)
	}},
	{"8.2", "immediate data", func(x *run) {
		c := x.ready("InitialR2T=Yes", "ImmediateData=Yes", "FirstBurstLength=4096")
		data := pattern(8192, x.Name())
		tag := c.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 4096}, write10(100, 8), data[:4096])
		c.good(tag)
		tag = c.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 8192}, write10(100, 16), data[:512])
		r := c.r2t(tag)
		if r.BufferOffset != 512 {
			x.Fatalf("%+v", r)
		}
		c.dataOut(tag, r.TargetTransferTag, 0, 512, data[512:512+r.DesiredDataTransferLength], true)
		c.good(tag)
		c.holds(100, data)
	}},
	{"8.3", "data that was not to come", func(x *run) {
		c := x.ready("InitialR2T=Yes", "ImmediateData=No")
		c.notGood(c.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: blk}, write10(200, 1), make([]byte, blk)))
		c = x.ready("InitialR2T=Yes", "ImmediateData=No")
		tag := c.command(pdu.SCSICommand{Write: true, ExpectedDataTransferLength: blk}, write10(200, 1), nil)
		c.dataOut(tag, pdu.ReservedTag, 0, 0, make([]byte, blk), true)
		c.notGood(tag)
	}},
	{"9.1", "TargetTransferTag", func(x *run) {
		c := x.solicited()
		tag, r := c.startWrite(0, blk)
		if r.TargetTransferTag == pdu.ReservedTag {
			x.Fatal("an R2T with the reserved tag")
		}
		c.dataOut(tag, r.TargetTransferTag+77, 0, 0, make([]byte, blk), true)
		c.notGood(tag)
		c.ping()
	}},
	{"10.1", "Data-In with status", func(x *run) {
		c := x.ready("MaxRecvDataSegmentLength=512")
		pdus, _ := c.dataIn(c.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 6 * blk}, read10(0, 4), nil))
		for i, d := range pdus {
			last := i == len(pdus)-1
			if d.HasStatus != last || last && (!d.Final || d.Status != 0 || !d.Underflow || d.ResidualCount != 2*blk) {
				x.Errorf("Data-In %d: %+v", i, d)
			}
		}
		tag := c.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: blk}, read10(0xffff, 1), nil)
		if r := c.answered(tag); r.Status != 2 || !r.Underflow || r.ResidualCount != blk {
			x.Errorf("a failed READ: %+v", r)
		}
	}},
	{"10.2", "A bit", func(x *run) {
		c := x.ready("MaxRecvDataSegmentLength=512")
		pdus, _ := c.dataIn(c.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 4 * blk}, read10(0, 4), nil))
		for _, d := range pdus {
			if d.Acknowledge {
				x.Error("A bit at ErrorRecoveryLevel 0, §11.7.2")
			}
		}
	}},
	{"11.1.1", "Data-Out longer than asked for", func(x *run) { x.wrongDataOut(0, 0, 2*blk, true) }},
	{"11.1.2", "Data-Out shorter than asked for", func(x *run) { x.wrongDataOut(0, 0, blk/2, true) }},
	{"11.2", "F bit of Data-Out", func(x *run) { x.wrongDataOut(0, 0, blk, false) }},
	{"11.3", "DataSN of Data-Out", func(x *run) { x.wrongDataOut(1, 0, blk, true) }},
	{"11.4", "BufferOffset of Data-Out", func(x *run) { x.wrongDataOut(0, blk, blk, true) }},
	{"12.1", "R2Ts have different tags", func(x *run) {
		c := x.solicited()
		seen := map[uint32]bool{}
		for range 5 {
			tag, r := c.startWrite(0, blk)
			if seen[r.TargetTransferTag] || r.R2TSN != 0 {
				x.Errorf("%+v", r)
			}
			seen[r.TargetTransferTag] = true
			c.dataOut(tag, r.TargetTransferTag, 0, 0, make([]byte, blk), true)
			c.good(tag)
		}
	}},
	{"12.2", "offsets and lengths of R2Ts", func(x *run) {
		c := x.solicited()
		data := pattern(20*blk, x.Name())
		tag, r := c.startWrite(300, len(data))
		for off := 0; ; {
			n := min(4096, len(data)-off)
			if int(r.BufferOffset) != off || int(r.DesiredDataTransferLength) != n {
				x.Fatalf("%+v, want %d bytes from %d", r, n, off)
			}
			c.dataOut(tag, r.TargetTransferTag, 0, off, data[off:off+n], true)
			if off += n; off == len(data) {
				break
			}
			r = c.r2t(tag)
		}
		if r := c.good(tag); r.ExpDataSN != 3 {
			x.Errorf("ExpDataSN %d after 3 R2Ts", r.ExpDataSN)
		}
		c.holds(300, data)
	}},
	{"12.3", "R2Ts of commands in parallel", func(x *run) {
		c := x.solicited()
		type write struct {
			tag uint32
			r   pdu.R2T
		}
		var all []write
		for i := range 4 {
			tag, r := c.startWrite(400+8*i, 4096)
			all = append(all, write{tag, r})
		}
		for _, a := range slices.Backward(all) { // the last first
			c.dataOut(a.tag, a.r.TargetTransferTag, 0, 0, pattern(4096, x.Name()), true)
			c.good(a.tag)
		}
	}},
	{"12.4", "MaxOutstandingR2T", func(x *run) {
		for _, limit := range []string{"1", "3"} {
			c := x.ready("InitialR2T=Yes", "ImmediateData=No", "MaxBurstLength=512", "MaxOutstandingR2T="+limit)
			n := int(limit[0] - '0')
			data := pattern(8*blk, x.Name())
			tag := c.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 8 * blk}, write10(500, 8), nil)
			var open []pdu.R2T
			asked := 0
			for off := 0; off < len(data); off += blk {
				for len(open) < n && asked < 8 {
					r := c.r2t(tag)
					if int(r.R2TSN) != asked || int(r.BufferOffset) != asked*blk {
						x.Fatalf("R2T %d: %+v", asked, r)
					}
					open = append(open, r)
					asked++
				}
				c.ping() // not one more
				c.dataOut(tag, open[0].TargetTransferTag, 0, off, data[off:off+blk], true)
				open = open[1:]
			}
			c.good(tag)
			c.holds(500, data)
		}
	}},
	{"13.1", "Data SNACK", func(x *run) {
		c := x.ready()
		c.send(&pdu.SNACK{InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag}, nil)
		c.rejected(pdu.RejectSNACK)
		c.good(c.tur())
	}},
	{"13.2", "Status SNACK", func(x *run) {
		c := x.ready()
		var h pdu.BHS
		(&pdu.SNACK{InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: pdu.ReservedTag}).Encode(&h)
		h[1] = 0x80 | 1
		_ = c.c.WritePDU(&h, nil, nil)
		c.rejected(pdu.RejectSNACK)
		c.good(c.tur())
	}},
	{"14.1", "Asynchronous Message: request to log out", func(x *run) {
		y := x.another(iserd.Limits{})
		c := y.ready()
		done := make(chan error, 1)
		go func() {
			ctx, cancel := context.WithTimeout(context.Background(), patience)
			defer cancel()
			done <- y.srv.Shutdown(ctx)
		}()
		p := c.expect(pdu.OpAsyncMessage)
		var m pdu.AsyncMessage
		if err := m.Decode(&p.BHS); err != nil || m.Event != pdu.AsyncLogoutRequest || m.Parameter3 == 0 || m.StatSN != c.expStatSN {
			x.Errorf("%+v, %v; StatSN %d expected", m, err, c.expStatSN)
		}
		c.good(c.tur()) // until then commands still run
		c.logout()
		if err := <-done; err != nil {
			x.Error(err)
		}
	}},
	{"14.2", "Asynchronous Message that is not heeded", func(x *run) {
		y := x.another(iserd.Limits{})
		c := y.ready()
		ctx, cancel := context.WithTimeout(context.Background(), 300*time.Millisecond)
		defer cancel()
		_ = y.srv.Shutdown(ctx)
		c.expect(pdu.OpAsyncMessage)
		p := c.expect(pdu.OpAsyncMessage)
		var m pdu.AsyncMessage
		if err := m.Decode(&p.BHS); err != nil || m.Event != pdu.AsyncDropAllConnections || m.Parameter3 != 0 {
			x.Errorf("%+v, %v", m, err)
		}
		c.closed()
	}},
	{"15.1", "NOP-Out that is echoed", func(x *run) {
		c := x.ready()
		for _, n := range []int{0, 1, 3, 4, 512, 8000} {
			c.tag++
			data := pattern(n, "echo")
			c.send(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: c.tag, TargetTransferTag: pdu.ReservedTag, CmdSN: c.cmdSN, DataLen: n}, data)
			p := c.expect(pdu.OpNOPIn)
			if !bytes.Equal(p.Data, data) || p.BHS.InitiatorTaskTag() != c.tag || p.BHS.TargetTransferTag() != pdu.ReservedTag {
				x.Errorf("%d bytes: %s", n, describe(p))
			}
		}
	}},
	{"15.2", "NOP-Out that wants no answer", func(x *run) {
		c := x.ready()
		c.send(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: pdu.ReservedTag, CmdSN: c.cmdSN}, nil)
		c.ping()
	}},
	{"15.3", "NOP-In of the target", func(x *run) {
		y := x.another(iserd.Limits{NopInterval: 100 * time.Millisecond})
		c := y.ready()
		var last uint32
		for range 3 {
			p := c.expect(pdu.OpNOPIn)
			ttt := p.BHS.TargetTransferTag()
			if p.BHS.InitiatorTaskTag() != pdu.ReservedTag || ttt == pdu.ReservedTag || ttt == last || p.BHS.StatSN() != c.expStatSN {
				x.Fatalf("%s TTT %#x StatSN %d", describe(p), ttt, p.BHS.StatSN())
			}
			last = ttt
			c.send(&pdu.NOPOut{Immediate: true, LUN: p.BHS.LUN(), InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: ttt, CmdSN: c.cmdSN, ExpStatSN: c.expStatSN}, nil)
		}
	}},
	{"16.1.1", "neither F nor W bit", func(x *run) {
		c := x.ready()
		c.command(pdu.SCSICommand{}, make([]byte, 6), nil)
		c.rejected(pdu.RejectInvalidPDUField)
		c.good(c.tur())
	}},
	{"16.1.2", "reserved InitiatorTaskTag", func(x *run) {
		c := x.ready()
		c.send(&pdu.SCSICommand{Final: true, InitiatorTaskTag: pdu.ReservedTag, CmdSN: c.cmdSN}, nil)
		c.cmdSN++
		c.rejected(pdu.RejectInvalidPDUField)
		c.good(c.tur())
	}},
	{"16.1.3", "InitiatorTaskTag that is in use", func(x *run) {
		c := x.solicited()
		tag, r := c.startWrite(0, blk)
		c.tag = tag - 1
		c.tur()
		c.rejected(pdu.RejectTaskInProgress)
		c.dataOut(tag, r.TargetTransferTag, 0, 0, make([]byte, blk), true)
		c.good(tag)
	}},
	{"16.1.4", "LUN that is not there", func(x *run) {
		c := x.ready()
		if r := c.answered(c.command(pdu.SCSICommand{Final: true, LUN: pdu.LUNOf(77)}, make([]byte, 6), nil)); r.Status != 2 {
			x.Errorf("%+v", r)
		}
	}},
	{"16.1.5", "ExpectedDataTransferLength and residuals", func(x *run) {
		c := x.ready()
		r := c.good(c.command(pdu.SCSICommand{Final: true, Read: true}, read10(0, 2), nil))
		if !r.Overflow || r.ResidualCount != 2*blk {
			x.Errorf("nothing expected: %+v", r)
		}
		pdus, data := c.dataIn(c.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 100}, read10(0, 1), nil))
		if d := pdus[len(pdus)-1]; len(data) != 100 || !d.Overflow || d.ResidualCount != blk-100 {
			x.Errorf("100 bytes expected: %+v", d)
		}
		r = c.good(c.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 2 * blk}, write10(0, 1), make([]byte, 2*blk)))
		if !r.Underflow || r.ResidualCount != blk {
			x.Errorf("more sent than written: %+v", r)
		}
	}},
	{"16.1.6", "Additional Header Segments", func(x *run) {
		c := x.ready()
		var h pdu.BHS
		c.tag++
		(&pdu.SCSICommand{Final: true, InitiatorTaskTag: c.tag, CmdSN: c.cmdSN}).Encode(&h)
		c.cmdSN++
		h[32] = 0x7f
		ahs, err := pdu.AppendExtendedCDB(nil, append([]byte{0x7f, 0, 0, 0, 0, 0, 0, 24}, make([]byte, 24)...))
		if err != nil {
			x.Fatal(err)
		}
		_ = c.c.WritePDU(&h, ahs, nil)
		if r := c.answered(c.tag); r.Status != 2 {
			x.Errorf("%+v", r)
		}
		c.good(c.tur())
	}},
	{"17.1", "Text: SendTargets", func(x *run) {
		c := x.ready()
		c.tag++
		c.send(&pdu.TextRequest{Final: true, Immediate: true, InitiatorTaskTag: c.tag, TargetTransferTag: pdu.ReservedTag, CmdSN: c.cmdSN, DataLen: 13}, []byte("SendTargets=\x00"))
		if p := c.expect(pdu.OpTextResponse); !p.BHS.Final() || !bytes.HasPrefix(p.Data, []byte("TargetName="+open+"\x00TargetAddress=")) {
			x.Errorf("%s %q", describe(p), p.Data)
		}
	}},
	{"18.1", "Logout", func(x *run) {
		c := x.ready()
		c.logout()
		c = x.ready()
		c.tag++
		c.send(&pdu.LogoutRequest{Immediate: true, Reason: pdu.LogoutCloseConnection, CID: 99, InitiatorTaskTag: c.tag, CmdSN: c.cmdSN}, nil)
		if p := c.expect(pdu.OpLogoutResponse); p.BHS[2] != byte(pdu.LogoutCIDNotFound) {
			x.Errorf("response %d", p.BHS[2])
		}
		c.good(c.tur())
	}},
}

func (c *conn) logout() {
	c.Helper()
	c.tag++
	c.send(&pdu.LogoutRequest{Immediate: true, Reason: pdu.LogoutCloseSession, InitiatorTaskTag: c.tag, CmdSN: c.cmdSN}, nil)
	if p := c.expect(pdu.OpLogoutResponse); p.BHS[2] != byte(pdu.LogoutSuccess) || p.BHS.InitiatorTaskTag() != c.tag {
		c.Fatalf("%s, response %d", describe(p), p.BHS[2])
	}
	if c.iser == nil { // over iSER it is for the initiator to disconnect
		c.closed()
	}
	_ = c.c.Close()
}

// holds reads blocks back.
func (c *conn) holds(lba int, want []byte) {
	c.Helper()
	_, got := c.dataIn(c.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: uint32(len(want))}, read10(lba, len(want)/blk), nil))
	if !bytes.Equal(got, want) {
		c.Errorf("blocks from %d hold other data", lba)
	}
}

// solicitedNumbers checks R2TSN and ExpDataSN over several bursts.
func (c *conn) solicitedNumbers() {
	c.Helper()
	tag := c.command(pdu.SCSICommand{Final: true, Write: true, ExpectedDataTransferLength: 8192}, write10(0, 16), nil)
	open := []pdu.R2T{}
	for off := 0; off < 8192; off += 2048 {
		if len(open) == 0 {
			open = append(open, c.r2t(tag))
		}
		r := open[0]
		if open = open[1:]; int(r.R2TSN) != off/2048 {
			c.Fatalf("%+v", r)
		}
		c.dataOut(tag, r.TargetTransferTag, 0, off, make([]byte, 2048), true)
	}
	if r := c.good(tag); r.ExpDataSN != 4 {
		c.Errorf("ExpDataSN %d", r.ExpDataSN)
	}
}

// wrongDataOut answers an R2T for one block at its start wrongly.
func (x *run) wrongDataOut(sn, off, n int, final bool) {
	x.Helper()
	c := x.solicited()
	tag, r := c.startWrite(600, blk)
	c.dataOut(tag, r.TargetTransferTag, sn, off, bytes.Repeat([]byte{0xee}, n), final)
	c.notGood(tag)
	d := x.ready()
	_, got := d.dataIn(d.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 3 * blk}, read10(600, 3), nil))
	if bytes.IndexByte(got, 0xee) >= 0 {
		x.Error("data of a wrong PDU is stored")
	}
}
