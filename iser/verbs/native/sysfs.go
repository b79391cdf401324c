//go:build linux && cgo && (amd64 || arm64)

package native

import (
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/iserd/iserd/iser/verbs"
)

// Present reports whether the kernel has an RDMA device. It loads no library.
func Present() bool { return len(kernelDevices(systemRoot)) > 0 }

// sysfsPort fills in Rate, NetDev and GIDs of the port p.Number of device name
// (Documentation/ABI/stable/sysfs-class-infiniband). What sysfs does not have
// stays empty.
func sysfsPort(root, name string, transport verbs.Transport, p *verbs.Port) {
	dir := filepath.Join(root, "sys/class/infiniband", name, "ports", strconv.Itoa(p.Number))
	p.Rate = readLine(filepath.Join(dir, "rate"))
	entries, _ := os.ReadDir(filepath.Join(dir, "gids"))
	for _, e := range entries {
		index, err := strconv.Atoi(e.Name())
		if err != nil {
			continue
		}
		addr, err := netip.ParseAddr(readLine(filepath.Join(dir, "gids", e.Name())))
		if err != nil || addr.IsUnspecified() {
			continue
		}
		g := verbs.GID{Index: index, Addr: addr, Type: verbs.GIDInfiniBand}
		// Reading the attributes of an entry that is not in use fails.
		g.NetDev = readLine(filepath.Join(dir, "gid_attrs/ndevs", e.Name()))
		switch readLine(filepath.Join(dir, "gid_attrs/types", e.Name())) {
		case "RoCE v2":
			g.Type = verbs.GIDRoCEv2
		case "IB/RoCE v1":
			if p.LinkLayer == verbs.LinkEthernet && transport != verbs.TransportIWARP {
				g.Type = verbs.GIDRoCEv1
			}
		}
		if p.NetDev == "" {
			p.NetDev = g.NetDev
		}
		p.GIDs = append(p.GIDs, g)
	}
	slices.SortFunc(p.GIDs, func(a, b verbs.GID) int { return a.Index - b.Index })
}

// settled reports whether each of the kernel's devices has the file that user
// space opens. One that has not is about to come or to go: not a time to ask
// the libraries for their list.
func settled(root string) bool {
	open := make(map[string]bool)
	files, _ := filepath.Glob(filepath.Join(root, "sys/class/infiniband_verbs/*/ibdev"))
	for _, f := range files {
		open[readLine(f)] = true
	}
	for _, name := range kernelDevices(root) {
		if !open[name] {
			return false
		}
	}
	return true
}

// readLine is the first line of a file, "" when it cannot be read.
func readLine(path string) string {
	b, err := os.ReadFile(path)
	if err != nil {
		return ""
	}
	line, _, _ := strings.Cut(string(b), "\n")
	return line
}
