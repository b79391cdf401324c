//go:build linux && cgo && (amd64 || arm64)

package native

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"github.com/iserd/iserd/iser/verbs"
)

// packages are Debian's for what vs_load loads and for the adapters' drivers
// in user space.
const packages = "librdmacm1 libibverbs1 ibverbs-providers"

// systemRoot is where /sys and /dev are.
const systemRoot = "/"

// diagnose says why the libraries, which gave cause or nothing, list no
// device.
func diagnose(root string, cause error) error {
	names := kernelDevices(root)
	exists := func(pattern string) bool {
		found, _ := filepath.Glob(filepath.Join(root, pattern))
		return len(found) > 0
	}
	switch {
	case len(names) == 0:
		return fmt.Errorf("native: %w: the kernel has none; load the adapter's driver (for soft-RoCE: modprobe rdma_rxe; rdma link add rxe0 type rxe netdev INTERFACE)", verbs.ErrNoDevice)
	case !exists("dev/infiniband/uverbs*"):
		return unusable(names, "/dev/infiniband/uverbs* does not exist: modprobe ib_uverbs", cause)
	case !exists("dev/infiniband/rdma_cm"):
		return unusable(names, "/dev/infiniband/rdma_cm does not exist: modprobe rdma_ucm", cause)
	case errors.Is(cause, os.ErrPermission):
		return unusable(names, "no permission to open /dev/infiniband/*", cause)
	default:
		return unusable(names, "libibverbs has no driver for it: install the Debian package ibverbs-providers", cause)
	}
}

func unusable(names []string, why string, cause error) error {
	err := fmt.Errorf("native: %w: the kernel has %s, but %s", verbs.ErrUnavailable, strings.Join(names, ", "), why)
	if cause != nil {
		err = fmt.Errorf("%w (%w)", err, cause)
	}
	return err
}

// kernelDevices are the names of the kernel's RDMA devices.
func kernelDevices(root string) []string {
	entries, _ := os.ReadDir(filepath.Join(root, "sys/class/infiniband"))
	var names []string
	for _, e := range entries {
		names = append(names, e.Name())
	}
	return names
}
