package iserd_test

import (
	"bytes"
	"context"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	rdma "github.com/iserd/iserd/initiator/iser"
	"github.com/iserd/iserd/internal/pcapng"

	"github.com/iserd/iserd/test/lab"
)

// recording is a capture under way.
type recording struct {
	t      *testing.T
	mu     sync.Mutex
	buf    bytes.Buffer
	cancel func()
	ended  chan error
}

// Write implements io.Writer.
func (r *recording) Write(b []byte) (int, error) {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.buf.Write(b)
}

// record begins a capture; it is there when record returns.
func record(t *testing.T, srv *iserd.Server, o iserd.CaptureOptions) *recording {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	r := &recording{t: t, cancel: cancel, ended: make(chan error, 1)}
	go func() { r.ended <- srv.Capture(ctx, r, o) }()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		r.mu.Lock()
		n := r.buf.Len()
		r.mu.Unlock()
		if n > 0 { // the head of the file comes after the connections were told
			return r
		}
		if time.Now().After(deadline) {
			t.Fatal("the capture does not begin")
		}
	}
}

// stop ends the capture and returns the file.
func (r *recording) stop() []byte {
	r.t.Helper()
	r.cancel()
	if err := <-r.ended; err != nil {
		r.t.Error(err)
	}
	return r.buf.Bytes()
}

// tshark returns fields of each frame that filter lets through, of connections
// to the target's port. What it finds malformed or doubtful fails the test.
func tshark(t *testing.T, file []byte, addr, filter string, fields ...string) []string {
	t.Helper()
	lab.NeedTools(t, "tshark")
	name := filepath.Join(t.TempDir(), "c.pcapng")
	if err := os.WriteFile(name, file, 0o600); err != nil {
		t.Fatal(err)
	}
	_, port, _ := strings.Cut(addr, ":")
	args := []string{
		"-r", name, "-d", "tcp.port==" + port + ",iscsi", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE",
		"-Y", filter, "-T", "fields", "-E", "occurrence=a", "-E", "separator=|", "-E", "aggregator=~",
	}
	all := append(slices.Clone(fields), "_ws.expert.message", "_ws.malformed")
	if !slices.Contains(fields, "frame.comment") {
		all = append(all, "frame.comment")
	}
	for _, f := range all {
		args = append(args, "-e", f)
	}
	out, err := exec.Command("tshark", args...).Output()
	if err != nil {
		t.Fatalf("tshark: %v", err)
	}
	var rows []string
	for line := range strings.Lines(string(out)) {
		cells := strings.Split(strings.TrimSuffix(line, "\n"), "|")
		row := strings.Join(cells[:len(fields)], "|")
		// A comment is a remark of ours, which tshark repeats.
		comment := cells[slices.Index(all, "frame.comment")]
		for note := range strings.SplitSeq(cells[len(fields)]+cells[len(fields)+1], "~") {
			if note != "" && note != comment && !slices.ContainsFunc(ordinary, func(s string) bool { return strings.HasPrefix(note, s) }) {
				t.Errorf("%s: %s", row, note)
			}
		}
		rows = append(rows, row)
	}
	return rows
}

// ordinary are the notes of tshark on beginning and end of a connection.
var ordinary = []string{"Connection establish", "Connection finish", "This frame initiates the connection closing"}

// traffic is a login, a WRITE with solicited data, a READ and a logout.
func traffic(t *testing.T, s *initiator.Session) {
	t.Helper()
	settle(t, s)
	data := bytes.Repeat([]byte("0123456789abcdef"), 6144) // 96 KiB
	write := []byte{0x2A, 0, 0, 0, 0, 8, 0, 0, 192, 0}
	if res, err := s.Exec(t.Context(), 0, write, data, 0); err != nil || res.Err() != nil {
		t.Fatalf("%v %+v", err, res)
	}
	read := []byte{0x28, 0, 0, 0, 0, 8, 0, 0, 192, 0}
	res, err := s.Exec(t.Context(), 0, read, nil, len(data))
	if err != nil || !bytes.Equal(res.Data, data) {
		t.Fatalf("%v %+v", err, res)
	}
	if err := s.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	<-s.Done()
}

// settle takes the unit attentions.
func settle(t *testing.T, s *initiator.Session) {
	t.Helper()
	for range 4 {
		if res, err := s.Exec(t.Context(), 0, make([]byte, 6), nil, 0); err != nil {
			t.Fatal(err)
		} else if res.Status == 0 {
			return
		}
	}
	t.Fatal("the unit does not get ready")
}

// small makes what traffic does take several PDUs.
func small(o *initiator.Options) {
	o.FirstBurstLength, o.MaxRecvDataSegmentLength, o.MaxBurstLength = 8192, 32<<10, 64<<10
}

func digests(o *initiator.Options) {
	small(o)
	o.HeaderDigest, o.DataDigest = "CRC32C", "CRC32C"
}

// TestCapture: tshark decodes what was captured as what was sent, with good
// digests and checksums.
func TestCapture(t *testing.T) {
	srv, addr := start(t)
	rec := record(t, srv, iserd.CaptureOptions{Node: "gw1"})
	traffic(t, connect(t, addr, digests))
	gone(t, srv)
	file := rec.stop()
	want := []string{
		"0x03", "0x23", "0x03", "0x23", // login, two stages
		"0x01", "0x21", "0x01", "0x21", // TEST UNIT READY with a unit attention, and without
		"0x01", "0x31", "0x05", "0x31", "0x05", "0x21", // WRITE: 8 KiB immediate, 64 and 24 KiB by R2T
		"0x01", "0x25", "0x25", "0x25", // READ, the status in the last
		"0x06", "0x26",
	}
	if d := cmp.Diff(want, tshark(t, file, addr, "iscsi", "iscsi.opcode")); d != "" {
		t.Error(d)
	}
	if got := tshark(t, file, addr, "iscsi.opcode == 0x05 || iscsi.opcode == 0x25", "iscsi.datasegmentlength"); strings.Join(got, " ") != "65536 24576 32768 32768 32768" {
		t.Errorf("data segments %v", got)
	}
	if got := tshark(t, file, addr, "iscsi.opcode == 0x25 && iscsi.scsidata.S == 1", "iscsi.scsiresponse.status"); len(got) != 1 {
		t.Errorf("Data-In with status: %v", got)
	}
	for _, field := range []string{"iscsi.headerdigest32", "iscsi.datadigest32"} {
		if got := tshark(t, file, addr, field, field); len(got) < 7 {
			t.Errorf("%s: %v", field, got)
		}
	}
	comment := tshark(t, file, addr, "frame.comment", "frame.comment", "iscsi.opcode")
	if len(comment) != 1 || !strings.HasPrefix(comment[0], "session 0x0001: iqn.") || !strings.HasSuffix(comment[0], " at "+testTarget+"|0x23") {
		t.Errorf("comments %q", comment)
	}
	if got := tshark(t, file, addr, "tcp", "frame.interface_name", "tcp.stream"); slices.ContainsFunc(got, func(s string) bool { return s != "tcp|0" }) {
		t.Errorf("interfaces and streams: %q", got)
	}
	if s := counts(t, file); s.Received != uint64(len(want)) || s.Dropped != 0 {
		t.Errorf("%+v", s)
	}
}

// gone waits until no session is left.
func gone(t *testing.T, srv *iserd.Server) {
	t.Helper()
	for deadline := time.Now().Add(5 * time.Second); ; time.Sleep(time.Millisecond) {
		alive := slices.ContainsFunc(srv.Actors(), func(a iserd.Actor) bool { return a.Kind == "conn" })
		if !alive {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal("a connection is left")
		}
	}
}

// counts adds up the last statistics of a file.
func counts(t *testing.T, file []byte) (sum pcapng.Statistics) {
	t.Helper()
	last := map[uint32]pcapng.Statistics{}
	for r := bytes.NewReader(file); r.Len() > 0; {
		_, block, err := pcapng.ReadBlock(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if s, ok := pcapng.ParseStatistics(block); ok {
			last[s.Interface] = s
		}
	}
	for _, s := range last {
		sum.Received += s.Received
		sum.Dropped += s.Dropped
	}
	return sum
}

// TestCaptureLater: of a session that was there before, digests are left out,
// so that it can be read without its login.
func TestCaptureLater(t *testing.T) {
	srv, addr := start(t)
	s := connect(t, addr, digests)
	settle(t, s)
	rec := record(t, srv, iserd.CaptureOptions{TSIH: s.LoginResult().TSIH})
	other := connect(t, addr, nil)
	settle(t, other)
	traffic(t, s)
	other.Close()
	gone(t, srv)
	file := rec.stop()
	want := []string{"0x01", "0x21", "0x01", "0x31", "0x05", "0x31", "0x05", "0x21", "0x01", "0x25", "0x25", "0x25", "0x06", "0x26"}
	if d := cmp.Diff(want, tshark(t, file, addr, "iscsi", "iscsi.opcode")); d != "" {
		t.Error(d)
	}
	if got := tshark(t, file, addr, "iscsi.headerdigest32 || iscsi.datadigest32", "frame.number"); len(got) > 0 {
		t.Errorf("digests in frames %v", got)
	}
	comment := tshark(t, file, addr, "frame.comment", "frame.comment")
	if len(comment) != 1 || !strings.Contains(comment[0], "already there when the capture began") || !strings.Contains(comment[0], testTarget) {
		t.Errorf("comments %q", comment)
	}
}

// TestCaptureSnaplen: with cut PDUs headers are still read, also of what follows
// a long PDU.
func TestCaptureSnaplen(t *testing.T) {
	srv, addr := start(t)
	rec := record(t, srv, iserd.CaptureOptions{Snaplen: 64})
	s := connect(t, addr, nil)
	settle(t, s)
	data := bytes.Repeat([]byte("canary"), 32768)[:196608]
	if res, err := s.Exec(t.Context(), 0, cdb10(0x2A, 0, 384), data, 0); err != nil || res.Err() != nil {
		t.Fatal(err, res)
	}
	if err := s.Logout(t.Context()); err != nil {
		t.Fatal(err)
	}
	gone(t, srv)
	file := rec.stop()
	got := tshark(t, file, addr, "iscsi.opcode && tcp.len > 0 && iscsi.opcode != 0x03 && iscsi.opcode != 0x23", "iscsi.opcode")
	if d := cmp.Diff([]string{"0x01", "0x21", "0x01", "0x21", "0x01", "0x21", "0x06", "0x26"}, got); d != "" {
		t.Error(d)
	}
	if n := bytes.Count(file, []byte("canary")); n > 3 {
		t.Errorf("%d times the data", n)
	}
}

// TestCaptureChooses: only the connections that were asked for, from their first
// PDU.
func TestCaptureChooses(t *testing.T) {
	const a, b = "iqn.2026-11.com.example:a", "iqn.2026-11.com.example:b"
	srv, addr := start(t)
	name := func(n string) func(*initiator.Options) {
		return func(o *initiator.Options) { o.InitiatorName = n }
	}
	early := connect(t, addr, name(a))
	byName, byTarget := record(t, srv, iserd.CaptureOptions{Initiator: a}), record(t, srv, iserd.CaptureOptions{Target: testTarget, Initiator: b})
	settle(t, early)
	for _, n := range []string{a, b} {
		s := connect(t, addr, name(n))
		settle(t, s)
		s.Close()
	}
	c, err := initiator.Dial(t.Context(), addr)
	if err != nil {
		t.Fatal(err)
	}
	d, err := initiator.Login(t.Context(), c, initiator.Options{SessionType: initiator.DiscoverySession, InitiatorName: b})
	if err != nil {
		t.Fatal(err)
	}
	d.Close()
	early.Close()
	gone(t, srv)
	one := []string{"0x03", "0x23", "0x03", "0x23", "0x01", "0x21", "0x01", "0x21"}
	if got := tshark(t, byTarget.stop(), addr, "iscsi", "iscsi.opcode"); !cmp.Equal(got, one) {
		t.Errorf("b at the target: %v", got)
	}
	file := byName.stop()
	if got := tshark(t, file, addr, "tcp.stream == 1 && iscsi", "iscsi.opcode"); !cmp.Equal(got, one) {
		t.Errorf("a, later: %v", got)
	}
	if got := tshark(t, file, addr, "tcp.stream == 0 && iscsi", "iscsi.opcode"); !cmp.Equal(got, one[4:]) {
		t.Errorf("a, before: %v", got)
	}
	if got := tshark(t, file, addr, "tcp.stream > 1", "tcp.stream"); len(got) > 0 {
		t.Errorf("others: %v", got)
	}
}

// TestCaptureSecrets: the responses of CHAP are in the file only when they are
// asked for.
func TestCaptureSecrets(t *testing.T) {
	for _, secrets := range []bool{false, true} {
		srv, addr := start(t, iserd.Access(iserd.CHAP(map[string][]byte{"joe": []byte("0123456789abcdef")})))
		rec := record(t, srv, iserd.CaptureOptions{Secrets: secrets})
		s := connect(t, addr, func(o *initiator.Options) { o.CHAP = initiator.CHAP{User: "joe", Secret: []byte("0123456789abcdef")} })
		s.Close()
		gone(t, srv)
		got := tshark(t, rec.stop(), addr, `iscsi.keyvalue contains "CHAP_R"`, "iscsi.keyvalue")
		if len(got) != 1 || strings.Contains(got[0], "CHAP_R=0x00000000") == secrets || !strings.Contains(got[0], "CHAP_N=joe") {
			t.Errorf("secrets %v: %q", secrets, got)
		}
	}
}

// TestCaptureISER: what moves by RDMA is seen as PDUs too.
func TestCaptureISER(t *testing.T) {
	srv, _, addr := startISER(t)
	rec := record(t, srv, iserd.CaptureOptions{})
	s := connectISER(t, addr, rdma.Options{}, small)
	traffic(t, s)
	gone(t, srv)
	file := rec.stop()
	want := []string{
		"0x03", "0x23", "0x03", "0x23",
		"0x01", "0x21", "0x01", "0x21",
		"0x01", "0x31", "0x05", "0x21", // one R2T stands for all RDMA Reads
		"0x01", "0x25", "0x21",
		"0x06", "0x26",
	}
	if d := cmp.Diff(want, tshark(t, file, addr.String(), "iscsi", "iscsi.opcode")); d != "" {
		t.Error(d)
	}
	if got := tshark(t, file, addr.String(), `frame.comment contains "moved by RDMA"`, "iscsi.opcode", "frame.interface_name"); strings.Join(got, " ") != "0x31|iser 0x05|iser 0x25|iser" {
		t.Errorf("by RDMA: %v", got)
	}
}

// TestCaptureOnePort: a connection that comes to a portal of both transports and
// turns out to be iSER is one connection in the file.
func TestCaptureOnePort(t *testing.T) {
	srv, addr := start(t)
	rec := record(t, srv, iserd.CaptureOptions{})
	s := connectISER(t, netip.MustParseAddrPort(addr), rdma.Options{}, nil)
	settle(t, s)
	s.Close()
	gone(t, srv)
	file := rec.stop()
	want := []string{"0x03", "0x23", "0x03", "0x23", "0x01", "0x21", "0x01", "0x21"}
	if d := cmp.Diff(want, tshark(t, file, addr, "iscsi", "iscsi.opcode")); d != "" {
		t.Error(d)
	}
	if got := tshark(t, file, addr, "tcp.flags.syn == 1", "frame.interface_name"); !slices.Equal(got, []string{"iser", "iser"}) {
		t.Errorf("beginnings: %v", got)
	}
}
