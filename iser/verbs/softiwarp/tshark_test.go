package softiwarp

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/test/wiretap"

	"github.com/iserd/iserd/test/lab"
)

// Wireshark's dissectors, written by other people from the same standards,
// understand all of a session, and find nothing to complain about.
func TestTshark(t *testing.T) {
	lab.NeedTools(t, "tshark")
	for _, cfg := range []Config{{MaxFPDU: 1460}, {MaxFPDU: 1460, CRC: true}, {MaxFPDU: 1460, PeerToPeer: true}} {
		t.Run(fmt.Sprintf("crc=%v,p2p=%v", cfg.CRC, cfg.PeerToPeer), func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "session.pcap")
			must(t, os.WriteFile(file, session(t, cfg), 0o600))
			// A dissector of NFS takes short messages for its own.
			out, err := exec.Command("tshark", "-r", file, "--disable-protocol", "rpcordma", "-T", "fields", "-e", "frame.number", "-e", "_ws.expert.message",
				"-Y", "(iwarp_mpa || iwarp_ddp_rdmap) && _ws.expert.severity >= 0x400000").Output()
			must(t, explain(err))
			if len(out) > 0 {
				t.Errorf("expert messages:\n%s", out)
			}
			out, err = exec.Command("tshark", "-r", file, "-T", "fields", "-E", "occurrence=a", "-e", "iwarp_rdma.opcode").Output()
			must(t, explain(err))
			got := string(out)
			for op := range opTerminate + 1 {
				if op == opSendSE || op == opSendSEInv {
					continue
				}
				if !strings.Contains(got, fmt.Sprintf("0x%02x", uint8(op))) {
					t.Errorf("%v was not seen in:\n%s", op, got)
				}
			}
		})
	}
}

func explain(err error) error {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return fmt.Errorf("%w: %s", err, exit.Stderr)
	}
	return err
}

// session does everything once and returns the capture.
func session(t *testing.T, cfg Config) []byte {
	a, b := newEnd(t, cfg), newEnd(t, cfg)
	l, err := b.cm.Listen(loopback, 0)
	must(t, err)
	tap := wiretap.New(t, l.Addr())
	a.dial(tap.Addr())
	a.newQP()
	must(t, a.conn.Connect(param))
	connectRequest(t, a, b)
	must(t, l.Close())
	for _, n := range []int{10, 5000} {
		testSend(t, a, b, n)
		testSend(t, b, a, n)
		testWrite(t, a, b, n)
		testRead(t, b, a, n)
		testRead(t, a, b, n)
	}
	w, err := b.dev.NewWindow()
	must(t, err)
	key, err := b.qp.Bind(w, b.mr, b.mem[:100], verbs.AccessRemoteWrite, 0, 0)
	must(t, err)
	b.poll()
	b.recv(1, 0, 64)
	a.send(verbs.SendWR{Op: verbs.OpSendInv, InvKey: key, SG: a.sge(0, 7)})
	b.wait(a, 1)
	// And a fault: both ends see it.
	a.send(verbs.SendWR{Op: verbs.OpRead, SG: a.sge(0, 9), RAddr: 1, RKey: 2})
	until(t, func() bool { a.poll(); b.poll(); return a.qp.state == qpError })
	must(t, a.conn.Close())
	must(t, b.conn.Close())
	a.conn, b.conn = nil, nil
	return tap.File()
}
