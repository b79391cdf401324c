package ffp_test

import (
	"bytes"
	"strings"
	"testing"

	"github.com/iserd/iserd/pdu"
)

// TestLogin is the login phase.
func TestLogin(t *testing.T) { runPlan(t, loginPlan) }

var loginPlan = []test{
	{"1.1", "standard login", func(x *run) {
		c, a := x.login("HeaderDigest=None", "DataDigest=None")
		if a.TSIH == 0 || !a.Transit || a.NSG != pdu.FullFeaturePhase {
			x.Errorf("final response %+v", a)
		}
		c.ping()
	}},
	{"2.1", "TSIH is 0 before the final response", func(x *run) {
		c := x.dial()
		if a := c.request(false, 0, append(c.names(), "AuthMethod=None")...); a.Status != 0 || a.TSIH != 0 {
			x.Errorf("%+v", a)
		}
	}},
	{"2.2", "TSIH of the final response is not 0, and differs between sessions", func(x *run) {
		_, a := x.login()
		_, b := x.login()
		if a.TSIH == 0 || b.TSIH == 0 || a.TSIH == b.TSIH {
			x.Errorf("TSIH %d and %d", a.TSIH, b.TSIH)
		}
	}},
	{"2.3", "unknown TSIH", func(x *run) {
		c := x.dial()
		c.tsih = 0xfff0
		a := c.request(true, pdu.LoginOperational, append(c.names(), "AuthMethod=None")...)
		if !a.end && a.Status == 0 {
			a = c.request(true, pdu.FullFeaturePhase)
		}
		c.refused(a)
	}},
	{"3.1", "no T bit without the initiator's", func(x *run) {
		c := x.dial()
		for i := range 3 {
			var keys []string
			if i == 0 {
				keys = append(c.names(), "AuthMethod=None")
			}
			if a := c.request(false, 0, keys...); a.Status != 0 || a.Transit {
				x.Fatalf("request %d: %+v", i, a)
			}
		}
	}},
	{"3.2", "T bit and NSG", func(x *run) {
		c := x.dial()
		if a := c.request(true, pdu.LoginOperational, append(c.names(), "AuthMethod=None")...); !a.Transit || a.CSG != pdu.SecurityNegotiation || a.NSG != pdu.LoginOperational {
			x.Fatalf("%+v", a)
		}
		if a := c.request(false, 0); a.Transit || a.CSG != pdu.LoginOperational {
			x.Fatalf("%+v", a)
		}
		if a := c.request(true, pdu.FullFeaturePhase); !a.Transit || a.NSG != pdu.FullFeaturePhase {
			x.Fatalf("%+v", a)
		}
	}},
	{"4.1", "StatSN counts the responses of the login", func(x *run) {
		c := x.dial()
		a := c.request(false, 0, append(c.names(), "AuthMethod=None")...)
		first := a.StatSN
		for i := range uint32(4) {
			if a := c.request(false, 0); a.StatSN != first+1+i {
				x.Fatalf("StatSN %d after %d", a.StatSN, first+i)
			}
		}
	}},
	{"4.2", "StatSN goes on in the full feature phase", func(x *run) {
		c, a := x.login()
		if n := c.ping(); n.StatSN != a.StatSN+1 {
			x.Errorf("StatSN %d after the login's %d", n.StatSN, a.StatSN)
		}
	}},
	{"5.1", "ExpStatSN is not checked in the first request", func(x *run) {
		c := x.dial()
		c.expStatSN = 0x12345678
		if a := c.request(true, pdu.LoginOperational, append(c.names(), "AuthMethod=None")...); a.end || a.Status != 0 {
			x.Errorf("%+v", a)
		}
	}},
	{"6.1", "a key twice in one request", func(x *run) {
		c := x.operational()
		c.refused(c.request(true, pdu.FullFeaturePhase, "MaxBurstLength=65536", "MaxBurstLength=65536"))
	}},
	{"6.2", "a key twice in two requests", func(x *run) {
		c := x.operational()
		if a := c.request(false, 0, "MaxBurstLength=65536"); a.end || a.Status != 0 {
			x.Fatalf("%+v", a)
		}
		c.refused(c.request(true, pdu.FullFeaturePhase, "MaxBurstLength=65536"))
	}},
	{"6.3", "a declaration twice", func(x *run) {
		c := x.operational()
		if a := c.request(false, 0, "MaxRecvDataSegmentLength=65536"); a.end || a.Status != 0 {
			x.Fatalf("%+v", a)
		}
		c.refused(c.request(true, pdu.FullFeaturePhase, "MaxRecvDataSegmentLength=8192"))
	}},
	{"7.1", "every offer is answered", func(x *run) {
		offers := []string{
			"HeaderDigest=None", "DataDigest=None", "InitialR2T=Yes", "ImmediateData=No", "MaxBurstLength=65536", "FirstBurstLength=4096",
			"DefaultTime2Wait=2", "DefaultTime2Retain=0", "MaxOutstandingR2T=1", "MaxConnections=1", "DataPDUInOrder=Yes",
			"DataSequenceInOrder=Yes", "ErrorRecoveryLevel=0",
		}
		_, a := x.login(offers...)
		for _, o := range offers {
			key, value, _ := strings.Cut(o, "=")
			if got, ok := a.get(key); key != "FirstBurstLength" && (!ok || got != value) {
				x.Errorf("%s is answered %q (%v)", o, got, ok)
			}
		}
	}},
	{"7.2", "the first known value of a list", func(x *run) {
		x.answersOneOf("HeaderDigest=X-com.example.sum,None,CRC32C", "None")
		x.answersOneOf("DataDigest=X-com.example.sum,None", "None")
	}},
	{"7.3", "unknown AuthMethod", func(x *run) {
		c := x.dial()
		c.refused(c.request(true, pdu.LoginOperational, append(c.names(), "AuthMethod=X-com.example.auth")...))
	}},
	{"7.4", "FirstBurstLength above MaxBurstLength", func(x *run) {
		c := x.operational()
		a := c.request(true, pdu.FullFeaturePhase, "MaxBurstLength=4096", "FirstBurstLength=65536")
		if a.end || a.Status != 0 {
			c.refused(a)
			return
		}
		if got, _ := a.get("FirstBurstLength"); got == "65536" {
			x.Errorf("FirstBurstLength=%s with MaxBurstLength=4096", got)
		}
	}},
	{"7.5", "ImmediateData that is no boolean", func(x *run) { x.rejectsValue("ImmediateData=Maybe") }},
	{"7.6", "unknown key", func(x *run) {
		x.answersOneOf("X-com.example.unknown=1", "NotUnderstood")
		x.answersOneOf("Unheard=of", "NotUnderstood")
	}},
	{"8.1", "a PDU that has no place in the login", func(x *run) {
		for _, m := range []message{
			&pdu.NOPOut{Immediate: true, InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag},
			&pdu.SCSICommand{Final: true, InitiatorTaskTag: 1},
			&pdu.TextRequest{Final: true, InitiatorTaskTag: 1, TargetTransferTag: pdu.ReservedTag},
			&pdu.LogoutRequest{Immediate: true, InitiatorTaskTag: 1},
		} {
			c := x.dial()
			c.send(m, nil)
			c.closed()
			c = x.operational()
			c.send(m, nil)
			if p := c.read(); p != nil {
				var r pdu.LoginResponse
				if err := r.Decode(&p.BHS); err != nil && p.BHS.Opcode() != pdu.OpReject || err == nil && r.Status == 0 {
					x.Errorf("answered by %s", describe(p))
				}
				c.closed()
			}
		}
	}},
	{"9.1", "HeaderDigest", func(x *run) { x.digest("HeaderDigest=CRC32C") }},
	{"9.2", "DataDigest", func(x *run) { x.digest("DataDigest=CRC32C") }},
	{"9.3", "both digests", func(x *run) { x.digest("HeaderDigest=CRC32C", "DataDigest=CRC32C") }},
	{"10.1", "MaxConnections", func(x *run) {
		x.answersOneOf("MaxConnections=8", "1")
		x.rejectsValue("MaxConnections=0")
	}},
	{"11.1", "names", func(x *run) {
		for _, keys := range [][]string{
			{"TargetName=" + open, "AuthMethod=None"},
			{"InitiatorName=" + me, "AuthMethod=None"},
			{"InitiatorName=" + me, "TargetName=iqn.2026-11.com.example:none", "AuthMethod=None"},
			{"InitiatorName=", "TargetName=" + open, "AuthMethod=None"},
		} {
			c := x.dial()
			c.refused(c.request(true, pdu.LoginOperational, keys...))
		}
	}},
	{"12.1", "markers", func(x *run) {
		// RFC 7143 §13.25: obsolete, the answer is "Reject" or "NotUnderstood"; "No" is that of older ones.
		x.answersOneOf("IFMarker=Yes", "No", "Reject", "NotUnderstood")
		x.answersOneOf("OFMarker=Yes", "No", "Reject", "NotUnderstood")
	}},
	{"13.1", "InitialR2T is OR", func(x *run) { x.answersOneOf("InitialR2T=Yes", "Yes") }},
	{"13.2", "ImmediateData is AND", func(x *run) { x.answersOneOf("ImmediateData=No", "No") }},
	{"13.3", "booleans with a wrong value", func(x *run) {
		x.rejectsValue("InitialR2T=1")
		x.rejectsValue("DataPDUInOrder=true")
	}},
	{"14.1", "MaxRecvDataSegmentLength is a declaration", func(x *run) {
		c, a := x.login("MaxRecvDataSegmentLength=512")
		if v, ok := a.get("MaxRecvDataSegmentLength"); ok && v == "512" {
			x.Log("the target declares 512 too")
		}
		c.command(pdu.SCSICommand{Final: true, Read: true, ExpectedDataTransferLength: 96}, []byte{0x12, 0, 0, 0, 96, 0}, nil)
		if p := c.read(); p == nil || len(p.Data) > 512 {
			x.Errorf("%s", describe(p))
		}
		x.rejectsValue("MaxRecvDataSegmentLength=511")
	}},
	{"15.1", "MaxBurstLength is MIN", func(x *run) {
		x.answersOneOf("MaxBurstLength=512", "512")
		if got := x.negotiated("MaxBurstLength=16777215"); got == "" || len(got) > 8 {
			x.Errorf("answered %q", got)
		}
		x.rejectsValue("MaxBurstLength=511")
	}},
	{"16.1", "FirstBurstLength is MIN", func(x *run) {
		c := x.operational()
		if a := c.request(true, pdu.FullFeaturePhase, "InitialR2T=No", "FirstBurstLength=512"); a.end || a.Status != 0 {
			x.Errorf("%+v", a)
		} else if got, _ := a.get("FirstBurstLength"); got != "512" {
			x.Errorf("answered %q", got)
		}
	}},
	{"16.2", "FirstBurstLength without a use for it", func(x *run) {
		c := x.operational()
		a := c.request(true, pdu.FullFeaturePhase, "InitialR2T=Yes", "ImmediateData=No", "FirstBurstLength=4096")
		if got, _ := a.get("FirstBurstLength"); a.end || a.Status != 0 || got != "Irrelevant" && got != "4096" {
			x.Errorf("answered %q: %+v", got, a)
		}
	}},
	{"16.3", "FirstBurstLength out of range", func(x *run) { x.rejectsValue("FirstBurstLength=511") }},
	{"17.1", "DefaultTime2Wait is MAX", func(x *run) {
		x.answersOneOf("DefaultTime2Wait=20", "20")
		x.rejectsValue("DefaultTime2Wait=3601")
	}},
	{"18.1", "DefaultTime2Retain is MIN", func(x *run) {
		x.answersOneOf("DefaultTime2Retain=0", "0")
		x.rejectsValue("DefaultTime2Retain=3601")
	}},
	{"19.1", "MaxOutstandingR2T is MIN", func(x *run) {
		x.answersOneOf("MaxOutstandingR2T=1", "1")
		x.rejectsValue("MaxOutstandingR2T=0")
	}},
	{"20.1", "ErrorRecoveryLevel is MIN", func(x *run) {
		x.answersOneOf("ErrorRecoveryLevel=2", "0")
		x.rejectsValue("ErrorRecoveryLevel=3")
	}},
	{"21.1", "SessionType", func(x *run) {
		c := x.dial()
		c.refused(c.request(true, pdu.LoginOperational, append(c.names(), "SessionType=Strange", "AuthMethod=None")...))
		c = x.dial()
		a := c.request(true, pdu.LoginOperational, "InitiatorName="+me, "SessionType=Discovery", "AuthMethod=None")
		if a.end || a.Status != 0 {
			x.Fatalf("discovery: %+v", a)
		}
		if a = c.request(true, pdu.FullFeaturePhase); a.end || a.Status != 0 || !a.Transit {
			x.Errorf("discovery: %+v", a)
		}
	}},
	{"22.1", "AuthMethod", func(x *run) {
		c := x.dial()
		a := c.request(true, pdu.LoginOperational, append(c.names(), "AuthMethod=KRB5,SRP,None")...)
		if got, _ := a.get("AuthMethod"); a.end || a.Status != 0 || got != "None" {
			x.Errorf("answered %q: %+v", got, a)
		}
		c = x.dial()
		c.target = secured
		c.refused(c.request(true, pdu.LoginOperational, append(c.names(), "AuthMethod=None")...))
	}},
	{"23.1", "the stage of the operational keys may come first", func(x *run) {
		c := x.dial()
		c.stage = pdu.LoginOperational
		if a := c.request(true, pdu.FullFeaturePhase, c.names()...); a.end || a.Status != 0 || !a.Transit {
			x.Errorf("%+v", a)
		}
		c = x.dial() // not without the authentication that the target wants
		c.target, c.stage = secured, pdu.LoginOperational
		c.refused(c.request(true, pdu.FullFeaturePhase, c.names()...))
	}},
	{"23.2", "a text over several requests", func(x *run) {
		c := x.dial()
		all := strings.Join(append(c.names(), "AuthMethod=None", ""), "\x00")
		for len(all) > 20 {
			c.send(&pdu.LoginRequest{Continue: true, ISID: c.isid, InitiatorTaskTag: c.tag, CmdSN: c.cmdSN, DataLen: 20}, []byte(all[:20]))
			all = all[20:]
			if p := c.expect(pdu.OpLoginResponse); len(p.Data) != 0 || p.BHS.Final() || p.BHS[36] != 0 {
				x.Fatalf("answer in the middle of a text: %s % x", describe(p), p.Data)
			}
		}
		c.send(&pdu.LoginRequest{Transit: true, NSG: pdu.LoginOperational, ISID: c.isid, InitiatorTaskTag: c.tag, CmdSN: c.cmdSN}, []byte(all))
		if p := c.expect(pdu.OpLoginResponse); !bytes.Contains(p.Data, []byte("AuthMethod=None")) || p.BHS[36] != 0 {
			x.Errorf("%s %q", describe(p), p.Data)
		}
	}},
	{"23.3", "reserved values of the header", func(x *run) {
		for _, r := range []pdu.LoginRequest{
			{Transit: true, CSG: 2, NSG: pdu.FullFeaturePhase},
			{Transit: true, CSG: pdu.FullFeaturePhase, NSG: pdu.FullFeaturePhase},
			{Transit: true, CSG: pdu.SecurityNegotiation, NSG: 2},
			{Transit: true, CSG: pdu.LoginOperational, NSG: pdu.SecurityNegotiation},
			{Transit: true, Continue: true, CSG: pdu.SecurityNegotiation, NSG: pdu.LoginOperational},
			{Transit: true, CSG: pdu.SecurityNegotiation, NSG: pdu.LoginOperational, VersionMax: 9, VersionMin: 9},
		} {
			c := x.dial()
			c.refused(c.requestWith(r, append(c.names(), "AuthMethod=None")...))
		}
	}},
}

// digest logs in with digests, works, and has the target notice a wrong one.
func (x *run) digest(keys ...string) {
	x.Helper()
	c := x.ready(keys...)
	c.tag++
	data := []byte("ping")
	c.send(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: c.tag, TargetTransferTag: pdu.ReservedTag, CmdSN: c.cmdSN, DataLen: 4}, data)
	if p := c.expect(pdu.OpNOPIn); !bytes.Equal(p.Data, data) {
		x.Errorf("echo %q", p.Data)
	}
	var h pdu.BHS
	(&pdu.NOPOut{Immediate: true, InitiatorTaskTag: c.tag, TargetTransferTag: pdu.ReservedTag, CmdSN: c.cmdSN, DataLen: 4}).Encode(&h)
	f := c.c.Frame(&h, nil, data)
	f.Seal()
	if len(f.HeaderDigest) > 0 {
		f.HeaderDigest[0] ^= 1
	} else {
		f.DataDigest[0] ^= 1
	}
	_ = c.c.WriteFrame(f)
	for p := c.read(); p != nil; p = c.read() {
		if p.BHS.Opcode() != pdu.OpReject {
			x.Fatalf("a damaged PDU is answered by %s", describe(p))
		}
	}
}
