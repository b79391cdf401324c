//go:build linux && cgo && (amd64 || arm64)

package native

import (
	"math/bits"
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

// fewCPUs are so few that they are what limits an adapter in software.
const fewCPUs = 3

// sysfsCPUs are the CPUs near device name, on a machine with n of them; nil when
// they are not known. An adapter on a bus is near a NUMA node. One in software is
// near the CPUs that its network interface's packets are steered to
// (Documentation/networking/scaling.rst, RPS), if there are few: where there are
// more, they and whoever polls are better apart.
func sysfsCPUs(root, name string, n int) []int {
	dir := filepath.Join(root, "sys/class/infiniband", name)
	if _, err := os.Stat(filepath.Join(dir, "device")); err == nil {
		return cpuMask(readLine(filepath.Join(dir, "device/local_cpus")))
	}
	netdev := readLine(filepath.Join(dir, "ports/1/gid_attrs/ndevs/0"))
	if netdev == "" || n > fewCPUs {
		return nil
	}
	var cpus []int
	queues, _ := filepath.Glob(filepath.Join(root, "sys/class/net", netdev, "queues/rx-*/rps_cpus"))
	for _, q := range queues {
		cpus = append(cpus, cpuMask(readLine(q))...)
	}
	slices.Sort(cpus)
	return slices.Compact(cpus)
}

// cpuMask is the CPUs of a mask as sysfs has it: words of 32 bits in hexadecimal,
// the last of CPUs 0 to 31. It is nil when the text is none.
func cpuMask(text string) []int {
	var cpus []int
	words := strings.Split(text, ",")
	slices.Reverse(words)
	for i, word := range words {
		w, err := strconv.ParseUint(word, 16, 32)
		if err != nil {
			return nil
		}
		for ; w != 0; w &= w - 1 {
			cpus = append(cpus, 32*i+bits.TrailingZeros64(w))
		}
	}
	return cpus
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
