package interop_test

import (
	"bytes"
	"encoding/binary"
	"path/filepath"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

// What hypervisors watch a thin disk for.
const (
	softThreshold = "6/38/07" // THIN PROVISIONING SOFT THRESHOLD REACHED
	noSpace       = "7/27/07" // DATA PROTECT, SPACE ALLOCATION FAILED WRITE PROTECT
)

// A file of 64 MiB on a file system of 16 MiB: initiators are told when the
// threshold is reached, once; when nothing is left writes fail as VMware wants
// them to so that it stops the guest, reads go on, and what UNMAP gives back can
// be written.
func TestThinFileRunsFull(t *testing.T) {
	lab.Gate(t)
	lab.NeedRoot(t)
	dir := t.TempDir()
	if err := unix.Mount("tmpfs", dir, "tmpfs", 0, "size=16m"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := unix.Unmount(dir, 0); err != nil {
			t.Error(err)
		}
	})
	d := target.Start(t, target.Config{LUNs: []target.LUN{{
		Size: 64 * mib, Path: filepath.Join(dir, "disk"), Thin: true, HCL: "    thin_threshold = 50",
	}}})
	s, err := initiator.Connect(t.Context(), initiator.URL{Address: d.Portal(), TargetName: target.IQN}, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	u := thinUnit{t: t, s: s, lun: pdu.LUNOf(uint16(d.LUN(0)))}
	for range 10 {
		if u.do(make([]byte, 6), nil, 0) == good {
			break
		}
	}

	told, full := 0, 0
	for i := 0; full == 0; i++ {
		switch got := u.write(i, 1); got {
		case good:
		case softThreshold:
			if i < 8 || i > 11 { // half, and a little since it is not looked at with each write
				t.Errorf("told of the threshold at %d MiB of 16", i)
			}
			told++
			i--
		case noSpace:
			full = i
		default:
			t.Fatalf("WRITE of MiB %d: %s", i, got)
		}
		if i == 64 {
			t.Fatal("64 MiB fit into 16")
		}
	}
	if told != 1 || full < 14 || full > 16 {
		t.Errorf("told %d times of the threshold, full after %d MiB; want once, and 15", told, full)
	}
	if got := u.write(full, 1); got != noSpace {
		t.Errorf("another WRITE: %s, want %s", got, noSpace)
	}
	if got := u.write(2, 7); got != good {
		t.Errorf("WRITE to what is allocated: %s", got)
	}
	u.reads(1, 1)
	u.reads(2, 7)

	list := make([]byte, 24) // UNMAP of 4 MiB
	list[1], list[3] = 22, 16
	binary.BigEndian.PutUint32(list[16:], 4*mib/512)
	if got := u.do([]byte{0x42, 0, 0, 0, 0, 0, 0, 0, 24, 0}, list, 0); got != good {
		t.Fatalf("UNMAP: %s", got)
	}
	if got := u.write(full, 3); got != good {
		t.Errorf("WRITE after UNMAP: %s", got)
	}
	u.reads(0, 0)
	u.reads(full, 3)
}

// thinUnit is a disk that is written and read in pieces of 1 MiB.
type thinUnit struct {
	t    *testing.T
	s    *initiator.Session
	lun  pdu.LUN
	data []byte
}

// do returns "GOOD" or the sense of a command; the data goes to u.data.
func (u *thinUnit) do(cdb, out []byte, in int) string {
	u.t.Helper()
	r, err := u.s.Exec(u.t.Context(), u.lun, cdb, out, in)
	if err != nil {
		u.t.Fatalf("% X: %v", cdb, err)
	}
	u.data = r.Data
	return outcome(r)
}

func pieceCDB(op byte, piece int) []byte {
	cdb := []byte{op, 0, 0, 0, 0, 0, 0, mib / 512 >> 8, mib / 512 & 0xFF, 0}
	binary.BigEndian.PutUint32(cdb[2:], uint32(piece)*(mib/512))
	return cdb
}

func (u *thinUnit) write(piece int, value byte) string {
	u.t.Helper()
	return u.do(pieceCDB(0x2A, piece), bytes.Repeat([]byte{value}, mib), 0)
}

func (u *thinUnit) reads(piece int, value byte) {
	u.t.Helper()
	if got := u.do(pieceCDB(0x28, piece), nil, mib); got != good || !bytes.Equal(u.data, bytes.Repeat([]byte{value}, mib)) {
		u.t.Errorf("READ of MiB %d: %s, or other data than %d", piece, got, value)
	}
}
