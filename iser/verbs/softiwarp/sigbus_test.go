package softiwarp

import (
	"os"
	"path/filepath"
	"runtime/debug"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// Memory of a file that somebody has cut short is the end of the connection
// that touches it, and of nothing else: of small pieces, which are copied, and
// of large ones, which the kernel copies; to be written and to be sent.
func TestFileCutShort(t *testing.T) {
	const size = 1 << 20
	for name, op := range map[string]struct {
		op verbs.Op
		n  int
	}{"write": {verbs.OpWrite, 100}, "large write": {verbs.OpWrite, 300000}, "read": {verbs.OpRead, 100}, "large read": {verbs.OpRead, 300000}} {
		t.Run(name, func(t *testing.T) {
			defer debug.SetPanicOnFault(debug.SetPanicOnFault(true)) // of this goroutine
			file, err := os.Create(filepath.Join(t.TempDir(), "lun"))
			must(t, err)
			defer func() { _ = file.Close() }()
			must(t, file.Truncate(size))
			mem, err := unix.Mmap(int(file.Fd()), 0, size, unix.PROT_READ|unix.PROT_WRITE, unix.MAP_SHARED)
			must(t, err)
			defer func() { must(t, unix.Munmap(mem)) }()
			v := newVictim(t, Config{})
			a := newEnd(t, Config{})
			connect(t, a, v.end)
			v.recv(1, 0, 8)
			v.recv(1, 0, 8)
			mr := v.register(mem, verbs.AccessLocalWrite|verbs.AccessRemoteWrite|verbs.AccessRemoteRead)
			defer func() { must(t, mr.Close()) }()
			must(t, file.Truncate(0))
			a.send(verbs.SendWR{Op: op.op, SG: a.sge(0, op.n), RAddr: verbs.Addr(mem), RKey: mr.RKey()})
			until(t, func() bool { a.poll(); v.poll(); return a.qp.state == qpError && v.qp.state == qpError })
			v.ended()
		})
	}
}
