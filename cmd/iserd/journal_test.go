package main

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/config"
)

// journald stands in for systemd-journald: it takes entries at a socket.
type journald struct {
	path string
	conn *net.UnixConn
}

func newJournald(t *testing.T) *journald {
	t.Helper()
	j := &journald{path: filepath.Join(t.TempDir(), "socket")}
	var err error
	if j.conn, err = net.ListenUnixgram("unixgram", &net.UnixAddr{Net: "unixgram", Name: j.path}); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { j.conn.Close() })
	return j
}

// next reads the fields of an entry as the protocol says: KEY=VALUE lines, or KEY,
// a newline, eight bytes of length, little-endian, the value, and a newline.
func (j *journald) next(t *testing.T) map[string]string {
	t.Helper()
	b := make([]byte, 1<<20)
	_ = j.conn.SetReadDeadline(time.Now().Add(patience))
	n, err := j.conn.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	out := map[string]string{}
	for b = b[:n]; len(b) > 0; {
		i := bytes.IndexAny(b, "=\n")
		if i <= 0 {
			t.Fatalf("not a field: %q", b)
		}
		key, value := string(b[:i]), ""
		if b[i] == '=' {
			value, _, _ = strings.Cut(string(b[i+1:]), "\n")
			b = b[i+1+len(value)+1:]
		} else {
			size := int(binary.LittleEndian.Uint64(b[i+1:]))
			value = string(b[i+9 : i+9+size])
			b = b[i+9+size+1:]
		}
		if _, twice := out[key]; twice {
			t.Errorf("field %s twice", key)
		}
		out[key] = value
	}
	return out
}

// TestJournal: what the journal gets of a message, in its native protocol.
func TestJournal(t *testing.T) {
	j := newJournald(t)
	out := &outlet{stderr: os.Stderr, journal: j.path}
	s, err := out.open(config.Log{Output: "journald"})
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	s.Accept("iserd.conn", hclog.Info, "logged in", "initiator", "iqn.2026-11.com.example:i", "header_digest", true, "peer-address", "10.0.0.1:4")
	want := map[string]string{
		"MESSAGE":             `conn: logged in: initiator=iqn.2026-11.com.example:i header_digest=true peer-address=10.0.0.1:4`,
		"PRIORITY":            "6",
		"SYSLOG_IDENTIFIER":   "iserd",
		"ISERD_LOGGER":        "conn",
		"ISERD_INITIATOR":     "iqn.2026-11.com.example:i",
		"ISERD_HEADER_DIGEST": "true",
		"ISERD_PEER_ADDRESS":  "10.0.0.1:4",
	}
	if d := cmp.Diff(want, j.next(t)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	// A value with a newline, and keys that are no names of fields.
	s.Accept("iserd", hclog.Error, "refused", "reason", "first\nPRIORITY=0", "_x=é", hclog.Fmt("%d", 5))
	want = map[string]string{
		"MESSAGE":           "refused: reason=\"first\\nPRIORITY=0\" _x=é=5",
		"PRIORITY":          "3",
		"SYSLOG_IDENTIFIER": "iserd",
		"ISERD_REASON":      "first\nPRIORITY=0",
		"ISERD__X__":        "5",
	}
	if d := cmp.Diff(want, j.next(t)); d != "" {
		t.Errorf("(-want +got)\n%s", d)
	}
	s.Accept("iserd", hclog.Warn, strings.Repeat("long ", 100000))
	if got := j.next(t); got["PRIORITY"] != "4" || !strings.HasSuffix(got["MESSAGE"], "(cut: the entry is too long)") {
		t.Errorf("%.200v", got)
	}
	if _, err := (&outlet{journal: j.path + "x"}).open(config.Log{Output: "journald"}); err == nil || !strings.Contains(err.Error(), "systemd-journald") {
		t.Errorf("without a journal: %v", err)
	}
}

// TestUnderSystemd: standard error that is a stream to the journal becomes the
// journal itself; where that cannot be reached, lines have priorities.
func TestUnderSystemd(t *testing.T) {
	stream, err := os.Create(filepath.Join(t.TempDir(), "stream"))
	if err != nil {
		t.Fatal(err)
	}
	defer stream.Close()
	var st unix.Stat_t
	if err := unix.Fstat(int(stream.Fd()), &st); err != nil {
		t.Fatal(err)
	}
	t.Setenv("JOURNAL_STREAM", fmt.Sprintf("%d:%d", st.Dev, st.Ino))
	j := newJournald(t)
	say := func(socket string, stderr *os.File, format string) {
		t.Helper()
		s, err := (&outlet{stderr: stderr, journal: socket}).open(config.Log{Output: "stderr", Format: format})
		if err != nil {
			t.Fatal(err)
		}
		defer s.Close()
		s.Accept("iserd", hclog.Warn, "careful", "n", 1)
		s.Accept("iserd", hclog.Error, "two\nlines")
	}
	say(j.path, stream, "text")
	if got := j.next(t); got["MESSAGE"] != "careful: n=1" || got["ISERD_N"] != "1" || got["PRIORITY"] != "4" {
		t.Errorf("%v", got)
	}
	say(j.path+"x", stream, "text")
	b, err := os.ReadFile(stream.Name())
	if want := "<4>[WARN]  iserd: careful: n=1\n<3>[ERROR] iserd: two\n<3>lines\n"; err != nil || string(b) != want {
		t.Errorf("got %q, want %q (%v)", b, want, err)
	}
	// Another stream than systemd's: a person looks at it.
	other, err := os.Create(filepath.Join(t.TempDir(), "other"))
	if err != nil {
		t.Fatal(err)
	}
	defer other.Close()
	say(j.path, other, "text")
	if b, err = os.ReadFile(other.Name()); err != nil || !strings.Contains(string(b), "Z [WARN]  iserd: careful: n=1\n") {
		t.Errorf("%q %v", b, err)
	}
}

// TestLogIsReplaced: output, format and levels change under loggers that are in
// use, a failed change puts them back, and a file that was moved away begins anew.
func TestLogIsReplaced(t *testing.T) {
	dir := t.TempDir()
	in := func(name string) string { return filepath.Join(dir, name) }
	read := func(name string) string {
		b, err := os.ReadFile(in(name))
		if err != nil {
			t.Error(err)
		}
		return string(b)
	}
	withLog := func(text string) string { return "log {\n" + text + "\n}\n" + reloadA }
	r := newRig(t, withLog(fmt.Sprintf("output = %q", "file:"+in("one"))))
	log := r.ctl.log.Named("part").With("k", "v")
	reload := func(text string, good bool) {
		t.Helper()
		r.write(text)
		if _, _, err := r.ctl.reload(t.Context()); (err == nil) != good {
			t.Fatal(err)
		}
	}
	log.Info("before")
	reload(withLog(fmt.Sprintf("output = %q\nformat = \"json\"", "file:"+in("two"))), true)
	log.Info("after")
	if one, two := read("one"), read("two"); !strings.Contains(one, "iserd.part: before: k=v") || strings.Contains(one, "after") ||
		!strings.Contains(two, `"@message":"after"`) || !strings.Contains(two, `"k":"v"`) {
		t.Errorf("one:\n%s\ntwo:\n%s", one, two)
	}
	// The new output cannot be opened: everything stays.
	reload(withLog("level = \"error\"\noutput = \"file:/nonexistent/x\""), false)
	log.Info("still here")
	if !strings.Contains(read("two"), "still here") {
		t.Error("the message is lost after a reload that failed")
	}
	if err := os.Rename(in("two"), in("two.1")); err != nil {
		t.Fatal(err)
	}
	reload(withLog(fmt.Sprintf("output = %q\nformat = \"json\"", "file:"+in("two"))), true)
	log.Info("rotated")
	if strings.Contains(read("two.1"), "rotated") || !strings.Contains(read("two"), "rotated") {
		t.Error("the file was not opened anew")
	}
}
