package fdio

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"

	"golang.org/x/sys/unix"
)

// Lock locks the whole file of fd against other users, in this process or
// another, until the descriptor is closed: exclusively, or with shared set
// against writers only. It uses an open file description lock (fcntl(2)), as
// other block servers and emulators do. The error names the holder if it can
// be found.
func Lock(fd int, shared bool) error {
	lk := unix.Flock_t{Type: unix.F_WRLCK, Whence: 0}
	if shared {
		lk.Type = unix.F_RDLCK
	}
	err := retry(func() error { return unix.FcntlFlock(uintptr(fd), unix.F_OFD_SETLK, &lk) })
	switch {
	case err == nil:
		return nil
	case errors.Is(err, unix.EAGAIN), errors.Is(err, unix.EACCES):
		return fmt.Errorf("in use by %s", holder(fd))
	default:
		return fmt.Errorf("lock: %w", err)
	}
}

// holder describes who else has the file of fd open. The kernel does not tell
// for locks of open file descriptions, so this looks at what processes have
// open, as far as it may.
func holder(fd int) string {
	var want unix.Stat_t
	if unix.Fstat(fd, &want) != nil {
		return "another process"
	}
	self := os.Getpid()
	dirs, _ := filepath.Glob("/proc/[0-9]*/fd")
	here := false
	for _, dir := range dirs {
		pid, err := strconv.Atoi(filepath.Base(filepath.Dir(dir)))
		if err != nil {
			continue
		}
		n := countOpen(dir, &want)
		switch {
		case pid == self && n > 1: // ours and one more
			here = true
		case pid != self && n > 0:
			return fmt.Sprintf("another process (pid %d)", pid)
		}
	}
	if here {
		return "another LUN of this process"
	}
	return "another process"
}

// countOpen counts the descriptors in dir that are open on the file want.
func countOpen(dir string, want *unix.Stat_t) int {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return 0 // gone, or not ours to look at
	}
	n := 0
	for _, e := range entries {
		var st unix.Stat_t
		if unix.Stat(filepath.Join(dir, e.Name()), &st) == nil && st.Dev == want.Dev && st.Ino == want.Ino {
			n++
		}
	}
	return n
}
