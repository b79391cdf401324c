package main

import (
	"bufio"
	"bytes"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/initiator"
)

// samples are the values of a scrape, by name and labels.
func samples(t *testing.T, cl *api.Client) map[string]float64 {
	t.Helper()
	text, err := cl.Raw(t.Context(), "/metrics")
	if err != nil {
		t.Fatal(err)
	}
	if tool, err := exec.LookPath("promtool"); err == nil { // package api sees to it that it is there
		cmd := exec.Command(tool, "check", "metrics")
		cmd.Stdin = bytes.NewReader(text)
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Errorf("promtool: %v\n%s", err, out)
		}
	}
	out := map[string]float64{}
	for s := bufio.NewScanner(bytes.NewReader(text)); s.Scan(); {
		if i := strings.LastIndexByte(s.Text(), ' '); i > 0 && !strings.HasPrefix(s.Text(), "#") {
			v, err := strconv.ParseFloat(s.Text()[i+1:], 64)
			if err != nil {
				t.Fatal(err)
			}
			out[s.Text()[:i]] = v
			if strings.HasPrefix(s.Text(), `iserd_lun_ops_total{target="`+aluaTarget+`"`) {
				out[totalOps] += v
			}
		}
	}
	return out
}

// settled is a scrape in which all that s has sent is counted: that shows at the
// end of a connection's turn, a moment after the initiator has the answer.
func settled(t *testing.T, cl *api.Client, s *initiator.Session) map[string]float64 {
	t.Helper()
	const commands = `iserd_pdu_total{opcode="SCSI Command",dir="in"}`
	sent := float64(s.Numbers().CmdSN - s.LoginResult().CmdSN)
	for end := time.Now().Add(patience); ; time.Sleep(20 * time.Millisecond) {
		first, second := samples(t, cl), samples(t, cl)
		if first[commands] == sent && first[totalOps] == second[totalOps] {
			return second
		}
		if time.Now().After(end) {
			t.Fatalf("%v commands counted, want %v", second[commands], sent)
		}
	}
}

// totalOps is made by samples: all that the first target's LUN has answered.
const totalOps = "all commands of the LUN"

// TestMetricsCountExactly: after a known load a scrape has grown by just that.
func TestMetricsCountExactly(t *testing.T) {
	r := newRig(t, reloadA)
	cl := r.open(config.Console{}, nil)
	s := r.connect(aluaTarget)
	before := settled(t, cl, s)

	const reads, writes = 9, 5
	block := make([]byte, 4096)
	for range reads {
		scsiExec(t, s, []byte{0x28, 0, 0, 0, 0, 0, 0, 0, 8, 0}, nil, len(block))
	}
	for range writes {
		scsiExec(t, s, []byte{0x2A, 0, 0, 0, 0, 0, 0, 0, 8, 0}, block, 0)
	}
	// The commands that VMware offloads to: COMPARE AND WRITE that matches and that
	// does not, WRITE SAME(16), UNMAP (refused: the LUN is thick), EXTENDED COPY.
	caw := append([]byte{0x89}, make([]byte, 15)...)
	caw[13] = 1
	scsiExec(t, s, caw, make([]byte, 1024), 0)
	other := make([]byte, 1024)
	other[0] = 1
	if _, asc := scsiExec(t, s, caw, other, 0); asc != 0x1D00 {
		t.Errorf("COMPARE AND WRITE: %#04x", asc)
	}
	same := append([]byte{0x93}, make([]byte, 15)...)
	same[13] = 8
	scsiExec(t, s, same, make([]byte, 512), 0)
	scsiExec(t, s, []byte{0x42, 0, 0, 0, 0, 0, 0, 0, 0, 0}, nil, 0)
	scsiExec(t, s, append([]byte{0x83}, make([]byte, 15)...), nil, 0)
	// PERSISTENT RESERVE OUT, REGISTER, and IN, READ KEYS.
	list := make([]byte, 24)
	list[15] = 7
	scsiExec(t, s, []byte{0x5F, 0, 0, 0, 0, 0, 0, 0, 24, 0}, list, 0)
	scsiExec(t, s, []byte{0x5E, 0, 0, 0, 0, 0, 0, 0, 64, 0}, nil, 64)

	after := settled(t, cl, s)
	lun := `{target="` + aluaTarget + `",lun="0"`
	const commands = reads + writes + 7
	for name, want := range map[string]float64{
		`iserd_lun_ops_total` + lun + `,op="read"}`:                     reads,
		`iserd_lun_ops_total` + lun + `,op="write"}`:                    writes,
		`iserd_lun_ops_total` + lun + `,op="compare_and_write"}`:        2,
		`iserd_lun_ops_total` + lun + `,op="write_same"}`:               1,
		`iserd_lun_ops_total` + lun + `,op="unmap"}`:                    1,
		`iserd_lun_ops_total` + lun + `,op="copy"}`:                     1,
		`iserd_lun_ops_total` + lun + `,op="reserve"}`:                  2,
		`iserd_lun_ops_total` + lun + `,op="other"}`:                    0,
		`iserd_lun_bytes_total` + lun + `,dir="read"}`:                  reads * 4096,
		`iserd_lun_bytes_total` + lun + `,dir="write"}`:                 writes * 4096,
		`iserd_lun_check_conditions_total` + lun + `,key="MISCOMPARE"}`: 1,
		`iserd_pr_registrants` + lun + `}`:                              1,
		`iserd_pdu_total{opcode="SCSI Command",dir="in"}`:               commands,
		`iserd_pdu_total{opcode="SCSI Data-In",dir="out"}`:              reads + 1, // and READ KEYS
		`iserd_pdu_total{opcode="SCSI Response",dir="out"}`:             commands - reads - 1,
		`iserd_digest_errors_total{digest="data"}`:                      0,
		`iserd_digest_errors_total{digest="header"}`:                    0,
		`iserd_login_total{result="0000"}`:                              0,
		`iserd_sessions{target="` + aluaTarget + `",transport="tcp"}`:   0,
	} {
		v, ok := after[name]
		if !ok || v-before[name] != want {
			t.Errorf("%s grew by %v, want %v (there: %v)", name, v-before[name], want, ok)
		}
	}
}
