package main

import (
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"strconv"
	"strings"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sys/unix"
)

// journalSocket is where systemd-journald takes entries in its native protocol.
const journalSocket = "/run/systemd/journal/socket"

// maxJournalEntry bounds an entry: what is longer than a datagram may be would
// have to go by a file, and no message of the daemon needs that.
const maxJournalEntry = 64 << 10

// priorities are those of syslog(3), which the journal has.
var priorities = map[hclog.Level]int{hclog.Trace: 7, hclog.Debug: 7, hclog.Info: 6, hclog.Warn: 4, hclog.Error: 3}

// journal is a sink that writes entries with a field for each key of a message.
type journal struct{ conn net.Conn }

func openJournal(path string) (*journal, error) {
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Net: "unixgram", Name: path})
	if err != nil {
		return nil, fmt.Errorf("the journal does not listen (systemd-journald): %w", err)
	}
	_ = c.SetWriteBuffer(8 << 20) // as sd_journal_send does; a small one works too
	return &journal{c}, nil
}

// Close implements io.Closer.
func (j *journal) Close() error { return j.conn.Close() }

// Accept implements hclog.SinkAdapter.
func (j *journal) Accept(name string, level hclog.Level, msg string, args ...any) {
	b := journalEntry(name, level, msg, args)
	if len(b) > maxJournalEntry {
		b = journalEntry(name, level, msg[:min(len(msg), 1024)]+" … (cut: the entry is too long)", nil)
	}
	_, _ = j.conn.Write(b) // there is no other place to tell it
}

// journalEntry is a message in the journal's native protocol: fields, each by
// itself, of which MESSAGE has all for people.
func journalEntry(name string, level hclog.Level, msg string, args []any) []byte {
	var b, fields bytes.Buffer
	text := msg
	for i := 0; i+1 < len(args); i += 2 {
		key, value := fmt.Sprint(args[i]), fieldText(args[i+1])
		sep := " "
		if i == 0 {
			sep = ": "
		}
		if strings.ContainsAny(value, " \"\n") || value == "" {
			text += sep + key + "=" + strconv.Quote(value)
		} else {
			text += sep + key + "=" + value
		}
		journalField(&fields, "ISERD_"+fieldName(key), value)
	}
	if part, ok := strings.CutPrefix(name, "iserd."); ok {
		text = part + ": " + text
		journalField(&fields, "ISERD_LOGGER", part)
	}
	journalField(&b, "MESSAGE", text)
	journalField(&b, "PRIORITY", strconv.Itoa(priorities[level]))
	journalField(&b, "SYSLOG_IDENTIFIER", "iserd")
	b.Write(fields.Bytes())
	return b.Bytes()
}

func fieldText(v any) string {
	if f, ok := v.(hclog.Format); ok && len(f) > 0 {
		if format, ok := f[0].(string); ok {
			return fmt.Sprintf(format, f[1:]...)
		}
	}
	return fmt.Sprint(v)
}

// journalField appends a field: KEY=VALUE, or with its length where the value has
// a newline.
func journalField(b *bytes.Buffer, key, value string) {
	b.WriteString(key)
	if strings.Contains(value, "\n") {
		b.WriteByte('\n')
		b.Write(binary.LittleEndian.AppendUint64(nil, uint64(len(value))))
	} else {
		b.WriteByte('=')
	}
	b.WriteString(value)
	b.WriteByte('\n')
}

// fieldName makes a name that the journal takes: capital letters, digits and
// underscores, 64 at most, "ISERD_" in front included.
func fieldName(key string) string {
	name := strings.Map(func(c rune) rune {
		switch {
		case c >= 'a' && c <= 'z':
			return c - 'a' + 'A'
		case c >= 'A' && c <= 'Z', c >= '0' && c <= '9':
			return c
		default:
			return '_'
		}
	}, key)
	return name[:min(len(name), 58)]
}

// isJournal reports whether w is a stream to the journal, as systemd gives it to
// services: $JOURNAL_STREAM names its device and inode, systemd.exec(5).
func isJournal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	var st unix.Stat_t
	if err := unix.Fstat(int(f.Fd()), &st); err != nil {
		return false
	}
	return os.Getenv("JOURNAL_STREAM") == fmt.Sprintf("%d:%d", st.Dev, st.Ino)
}

// withPriorities has lines of each level begin with what tells the journal their
// priority, sd-daemon(3).
func withPriorities(w io.Writer) io.Writer {
	all := map[hclog.Level]io.Writer{}
	for level, p := range priorities {
		all[level] = prefixed{w, fmt.Appendf(nil, "<%d>", p)}
	}
	return hclog.NewLeveledWriter(w, all)
}

type prefixed struct {
	w      io.Writer
	prefix []byte
}

// Write implements io.Writer for whole messages; each line gets the prefix.
func (p prefixed) Write(b []byte) (int, error) {
	var out []byte
	for line := range bytes.Lines(b) {
		out = append(append(out, p.prefix...), line...)
	}
	if n, err := p.w.Write(out); err != nil || n < len(out) {
		return 0, errors.Join(err, io.ErrShortWrite)
	}
	return len(b), nil
}
