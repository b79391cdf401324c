package fdio

import (
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// SysBlock returns the sysfs directory of the disk that dev is or is a
// partition of, or "" if there is none (tmpfs, overlay, btrfs, no sysfs).
func SysBlock(dev uint64) string {
	dir := fmt.Sprintf("/sys/dev/block/%d:%d", unix.Major(dev), unix.Minor(dev))
	dir, err := filepath.EvalSymlinks(dir)
	if err != nil {
		return ""
	}
	if _, err := os.Stat(filepath.Join(dir, "partition")); err == nil {
		return filepath.Dir(dir)
	}
	return dir
}

// SysString returns the content of an attribute below dir without white
// space around it, or "" if it cannot be read.
func SysString(dir, attribute string) string {
	if dir == "" {
		return ""
	}
	b, err := os.ReadFile(filepath.Join(dir, attribute))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// SysInt is SysString for numbers; 0 stands for everything that is none.
func SysInt(dir, attribute string) int64 {
	n, err := strconv.ParseInt(SysString(dir, attribute), 10, 64)
	if err != nil {
		return 0
	}
	return n
}
