package wiretap_test

import (
	"bytes"
	"context"
	"errors"
	"maps"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
	"github.com/iserd/iserd/luns/memory"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
	"github.com/iserd/iserd/test/wiretap"

	"github.com/iserd/iserd/test/lab"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const target = "iqn.2026-11.com.example:tapped"

// Wireshark decodes a session over iSER on software iWARP from the TCP connection to
// the CDBs, by its own dissectors and contrib/wireshark/iser.lua, and has nothing to
// complain about.
func TestWireshark(t *testing.T) {
	lab.NeedTools(t, "tshark")
	file := filepath.Join(t.TempDir(), "session.pcap")
	if err := os.WriteFile(file, record(t), 0o600); err != nil {
		t.Fatal(err)
	}
	run := func(args ...string) string {
		t.Helper()
		out, err := exec.Command("tshark", append([]string{"-r", file, "-X", "lua_script:../../contrib/wireshark/iser.lua"}, args...)...).Output()
		if exit, ok := errors.AsType[*exec.ExitError](err); ok {
			t.Fatalf("%v: %s", err, exit.Stderr)
		}
		if err != nil {
			t.Fatal(err)
		}
		return string(out)
	}
	if out := run("-Y", "_ws.expert.severity >= 0x400000 || _ws.malformed || _ws.lua.error", "-T", "fields",
		"-e", "frame.number", "-e", "frame.protocols", "-e", "_ws.expert.message", "-e", "_ws.lua.error"); out != "" {
		t.Errorf("expert messages:\n%s", out)
	}
	want := map[string][]string{
		"iwarp_iser.opcode": {"1", "2", "3"}, // all three messages
		"iwarp_iser.wsv":    {"0", "1"},
		"iwarp_iser.rsv":    {"0", "1"},
		"iwarp_iser.ird":    {"4"},
		"iwarp_iser.ord":    {"4"},
		// NOP-Out, SCSI Command, Login, Text, Logout, and their answers.
		"iscsi.opcode":    {"0x00", "0x01", "0x03", "0x04", "0x06", "0x20", "0x21", "0x23", "0x24", "0x26"},
		"iscsi.keyvalue":  {"RDMAExtensions=Yes", "TargetName=" + target, "SendTargets=All"},
		"scsi_sbc.opcode": {"0x28", "0x2a"}, // READ(10), WRITE(10)
		// RDMA Write, Read Request and Response, Send, Send with Invalidate.
		"iwarp_rdma.opcode":     {"0x00", "0x01", "0x02", "0x03", "0x04"},
		"iwarp_iser.read_stag":  nil,
		"iwarp_iser.write_stag": nil,
		"iwarp_ddp.stag":        nil,
		"iwarp_rdma.srcstag":    nil,
	}
	fields := slices.Sorted(maps.Keys(want))
	args := []string{"-T", "fields", "-E", "occurrence=a", "-E", "aggregator=|"}
	for _, f := range fields {
		args = append(args, "-e", f)
	}
	got := values(fields, run(args...))
	for f, all := range want {
		for _, w := range all {
			if !slices.Contains(got[f], w) {
				t.Errorf("%s is %q, want %q among it", f, got[f], w)
			}
		}
	}
	// The tags that the initiator names are those that are written to and read from.
	for named, used := range map[string]string{"iwarp_iser.read_stag": "iwarp_ddp.stag", "iwarp_iser.write_stag": "iwarp_rdma.srcstag"} {
		for _, tag := range got[named] {
			if !slices.Contains(got[used], tag) {
				t.Errorf("steering tag %s is in a header and was not used: %q", tag, got[used])
			}
		}
		if len(got[named]) == 0 {
			t.Errorf("no %s", named)
		}
	}
}

// values are the values of each field in the output of tshark -T fields.
func values(fields []string, out string) map[string][]string {
	got := make(map[string][]string)
	for row := range strings.Lines(out) {
		for i, cell := range strings.Split(strings.TrimSuffix(row, "\n"), "\t") {
			for v := range strings.SplitSeq(cell, "|") {
				if v != "" && i < len(fields) {
					got[fields[i]] = append(got[fields[i]], v)
				}
			}
		}
	}
	return got
}

// record has sessions of all kinds and returns the file of their packets.
func record(t *testing.T) []byte {
	t.Helper()
	prov := softiwarp.New(softiwarp.Config{MaxFPDU: 1460})
	srv, err := iserd.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if err := errors.Join(srv.Shutdown(ctx), prov.Close()); err != nil {
			t.Error(err)
		}
	})
	b, err := memory.New(memory.Options{Size: 16 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddTarget(t.Context(), target, iserd.AnyInitiator(), iserd.LUN(0, b)); err != nil {
		t.Fatal(err)
	}
	addr, _, err := srv.AddISERPortal(t.Context(), prov, netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	tap := wiretap.New(t, addr)
	discover(t, prov, tap.Addr())
	work(t, prov, tap.Addr())
	hello(t, prov, tap.Addr())
	return tap.File()
}

func session(t *testing.T, prov *softiwarp.Provider, addr netip.AddrPort, o initiator.Options) *initiator.Session {
	t.Helper()
	c, err := rdma.Dial(t.Context(), prov, addr, rdma.Options{Invalidate: true})
	if err != nil {
		t.Fatal(err)
	}
	s, err := initiator.Login(t.Context(), c, o)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func discover(t *testing.T, prov *softiwarp.Provider, addr netip.AddrPort) {
	t.Helper()
	s := session(t, prov, addr, initiator.Options{SessionType: initiator.DiscoverySession})
	if targets, err := s.SendTargets(t.Context(), "All"); err != nil || len(targets) != 1 {
		t.Fatal(targets, err)
	}
	if err := s.Logout(t.Context()); err != nil {
		t.Error(err)
	}
}

// work writes and reads with and without immediate data.
func work(t *testing.T, prov *softiwarp.Provider, addr netip.AddrPort) {
	t.Helper()
	for _, immediate := range []initiator.YesNo{initiator.Yes, initiator.No} {
		s := session(t, prov, addr, initiator.Options{TargetName: target, ImmediateData: immediate, Extra: rdma.Keys()})
		if _, err := s.Exec(t.Context(), 0, make([]byte, 6), nil, 0); err != nil { // a unit attention
			t.Fatal(err)
		}
		for _, blocks := range []byte{1, 8, 64} {
			data := bytes.Repeat([]byte("wiretap "), int(blocks)*64)
			if r, err := s.Exec(t.Context(), 0, []byte{0x2a, 0, 0, 0, 0, 7, 0, 0, blocks, 0}, data, 0); err != nil || r.Status != 0 {
				t.Fatal(r, err)
			}
			r, err := s.Exec(t.Context(), 0, []byte{0x28, 0, 0, 0, 0, 7, 0, 0, blocks, 0}, nil, len(data))
			if err != nil || !bytes.Equal(r.Data, data) {
				t.Fatal(r, err)
			}
		}
		if _, err := s.NOP(t.Context(), []byte("are you there?")); err != nil {
			t.Fatal(err)
		}
		if err := s.Logout(t.Context()); err != nil {
			t.Error(err)
		}
	}
}

// hello is a session that begins with a Hello.
func hello(t *testing.T, prov *softiwarp.Provider, addr netip.AddrPort) {
	t.Helper()
	c, err := rdma.Open(t.Context(), prov, addr, rdma.Options{Depth: 4})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	if err := c.PostRecvs(4, rdma.Recv); err != nil {
		t.Fatal(err)
	}
	var data []byte
	for _, p := range append([]text.Pair{
		{Key: "InitiatorName", Value: initiator.DefaultInitiatorName},
		{Key: "TargetName", Value: target},
		{Key: "SessionType", Value: "Normal"},
		{Key: "iSERHelloRequired", Value: "Yes"},
	}, rdma.Keys()...) {
		data = text.Append(data, p.Key, p.Value)
	}
	var h pdu.BHS
	(&pdu.LoginRequest{
		Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase, ISID: initiator.RandomISID(), InitiatorTaskTag: 1, CmdSN: 1,
	}).Encode(&h)
	got := 0
	wait := func() {
		t.Helper()
		for n, deadline := got, time.Now().Add(10*time.Second); got == n; {
			if err := c.Poll(time.Second, true, func(rdma.Message) error { got++; return nil }); err != nil || time.Now().After(deadline) {
				t.Fatal("no answer", err)
			}
		}
	}
	if err := c.SendPDU(&iser.Header{}, &h, nil, data); err != nil {
		t.Fatal(err)
	}
	wait()
	b := make([]byte, iser.HeaderLen)
	(&iser.Hello{MaxVersion: 10, MinVersion: 10, IRD: 4}).Encode(b)
	if err := c.SendMessage(b); err != nil {
		t.Fatal(err)
	}
	wait()
}
