package vmlab

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"maps"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// Guest is what to run in a VM.
type Guest struct {
	// Script is run by sh with `set -eu`, after guest/lib.sh, in a directory
	// in memory. The run's shared directory is /lab.
	Script string
	// Env are the script's variables.
	Env map[string]string
	// Kernel to run; "" means Kernel61.
	Kernel Kernel
	// Share is the host's directory that the guest sees as /lab, for programs
	// and results; "" means a new one.
	Share string
	// Forward are TCP ports of the guest that the host reaches, on VM.Port.
	Forward []int
	// Memory in MiB; 0 means 2048.
	Memory int
	// Timeout ends the run, boot and shutdown included; 0 means 5 minutes.
	Timeout time.Duration
}

// Result is what a guest left.
type Result struct {
	Status int    // exit status of the script; -1 when it did not end by itself
	Output string // of the script
	Kernel string // the kernel's log; its console when the script did not end
}

// VM is a running guest.
type VM struct {
	t      testing.TB
	cmd    *exec.Cmd
	share  string
	ports  map[int]int
	limit  <-chan time.Time
	done   chan struct{} // closed when the guest is gone and its output read
	mu     sync.Mutex
	lines  []string
	next   int           // first line that WaitLine has not looked at
	more   chan struct{} // closed and replaced at each line
	budget time.Duration
}

// Boot runs g to its end and fails the test when the script fails.
func Boot(t testing.TB, g Guest) Result {
	t.Helper()
	r := Start(t, g).Wait()
	if r.Status != 0 {
		t.Fatalf("vmlab: guest script ended with status %d; kernel:\n%s", r.Status, tail(r.Kernel, 40))
	}
	return r
}

// Start boots a guest. It is killed at the end of the test if it is still
// there.
func Start(t testing.TB, g Guest) *VM {
	t.Helper()
	if g.Kernel == "" {
		g.Kernel = Kernel61
	}
	if g.Share == "" {
		g.Share = t.TempDir()
	}
	if g.Memory == 0 {
		g.Memory = 2048
	}
	if g.Timeout == 0 {
		g.Timeout = 5 * time.Minute
	}
	img := buildImage(t, g.Kernel)
	for name, text := range map[string]string{
		"init.sh":  read(t, "guest/init.sh"),
		"lib.sh":   read(t, "guest/lib.sh") + read(t, "guest/iser.sh"),
		"env":      fmt.Sprintf("export LAB_NAME=vm LAB_SECONDS=%d\n", int(g.Timeout.Seconds())-30) + environment(g.Env),
		"guest.sh": g.Script,
	} {
		if err := os.WriteFile(filepath.Join(g.Share, name), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	vm := &VM{t: t, share: g.Share, ports: freePorts(t, g.Forward), budget: g.Timeout, done: make(chan struct{}), more: make(chan struct{})}
	vm.cmd = exec.Command("qemu-system-x86_64", arguments(g, img, vm.ports)...)
	vm.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	output, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	vm.cmd.Stdout, vm.cmd.Stderr = input, input
	if err := vm.cmd.Start(); err != nil {
		t.Fatalf("vmlab: %v", err)
	}
	_ = input.Close()
	vm.limit = time.After(g.Timeout)
	go vm.read(output)
	t.Cleanup(vm.kill)
	return vm
}

// arguments of QEMU: a machine with two CPUs, the file systems, the shared
// directory, and two serial ports, the kernel's and the script's. The user
// network reaches the host's 127.0.0.1 as 10.0.2.2.
func arguments(g Guest, img image, ports map[int]int) []string {
	network := []string{"user", "id=n0"}
	for guest, host := range ports {
		network = append(network, fmt.Sprintf("hostfwd=tcp:127.0.0.1:%d-:%d", host, guest))
	}
	return []string{
		"-machine", "q35", "-accel", "tcg,thread=multi,tb-size=512", "-cpu", "max,-erms,-fsrm,-pclmulqdq", "-smp", "2",
		"-m", strconv.Itoa(g.Memory), "-nodefaults", "-display", "none", "-no-reboot",
		"-kernel", img.vmlinuz, "-initrd", img.initrd,
		"-append", "console=ttyS0 mitigations=off nokaslr tsc=reliable clearcpuid=rep_good panic=-1 quiet loglevel=4",
		"-drive", "file=" + img.root + ",format=raw,if=virtio,snapshot=on",
		"-drive", "file=" + img.modules + ",format=raw,if=virtio,readonly=on",
		"-virtfs", "local,path=" + g.Share + ",mount_tag=lab,security_model=none,multidevs=remap",
		"-netdev", strings.Join(network, ","), "-device", "virtio-net-pci,netdev=n0,romfile=",
		"-serial", "file:" + filepath.Join(g.Share, "console"),
		"-chardev", "stdio,id=out,signal=off", "-serial", "chardev:out",
	}
}

// read collects the script's output until the guest is gone.
func (vm *VM) read(output io.ReadCloser) {
	defer close(vm.done)
	lines := bufio.NewScanner(output)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		line := strings.TrimRight(lines.Text(), "\r")
		vm.mu.Lock()
		vm.lines = append(vm.lines, line)
		close(vm.more)
		vm.more = make(chan struct{})
		vm.mu.Unlock()
		vm.t.Log("guest| " + line)
	}
	_ = output.Close()
	_ = vm.cmd.Wait()
}

// kill ends the guest at once.
func (vm *VM) kill() {
	_ = syscall.Kill(-vm.cmd.Process.Pid, syscall.SIGKILL)
	<-vm.done
}

// Share is the directory of the host that the guest sees as /lab.
func (vm *VM) Share() string { return vm.share }

// Port is the port of the host's 127.0.0.1 that leads to a port of Guest.Forward.
func (vm *VM) Port(guest int) int { return vm.ports[guest] }

// freePorts finds a port of the host for each of the guest's.
func freePorts(t testing.TB, guest []int) map[int]int {
	t.Helper()
	ports := make(map[int]int)
	for _, n := range guest {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			t.Fatal(err)
		}
		defer l.Close() // only now: each is another one
		ports[n] = l.Addr().(*net.TCPAddr).Port
	}
	return ports
}

// Signal creates an empty file in the shared directory, for a script that
// waits for it.
func (vm *VM) Signal(name string) {
	vm.t.Helper()
	if err := os.WriteFile(filepath.Join(vm.share, name), nil, 0o644); err != nil {
		vm.t.Fatal(err)
	}
}

// WaitLine waits for the next line of output that begins with prefix and
// returns the rest of it. Lines are looked at once. It fails the test when the
// guest ends or ctx is done first.
func (vm *VM) WaitLine(ctx context.Context, prefix string) string {
	vm.t.Helper()
	for gone := false; ; {
		vm.mu.Lock()
		for vm.next < len(vm.lines) {
			rest, ok := strings.CutPrefix(vm.lines[vm.next], prefix)
			vm.next++
			if ok {
				vm.mu.Unlock()
				return rest
			}
		}
		more := vm.more
		vm.mu.Unlock()
		if gone {
			vm.t.Fatalf("vmlab: guest ended before it said %q", prefix)
		}
		select {
		case <-more:
		case <-vm.done:
			gone = true // one more look: its last lines came before
		case <-ctx.Done():
			vm.t.Fatalf("vmlab: guest did not say %q: %v", prefix, ctx.Err())
		}
	}
}

// Wait waits for the guest's end. It fails the test when the guest's time is
// over first.
func (vm *VM) Wait() Result {
	vm.t.Helper()
	select {
	case <-vm.done:
	case <-vm.limit:
		vm.kill()
		vm.t.Fatalf("vmlab: guest was not done in %v; console:\n%s", vm.budget, tail(vm.file("console"), 40))
	}
	r := Result{Status: -1, Kernel: vm.file("dmesg")}
	if n, err := strconv.Atoi(strings.TrimSpace(vm.file("status"))); err == nil {
		r.Status = n
	}
	if r.Kernel == "" {
		r.Kernel = vm.file("console")
	}
	vm.mu.Lock()
	r.Output = strings.Join(vm.lines, "\n")
	vm.mu.Unlock()
	return r
}

// file is the text of a file in the shared directory, "" when there is none.
func (vm *VM) file(name string) string {
	b, err := os.ReadFile(filepath.Join(vm.share, name))
	if err != nil {
		return ""
	}
	return string(b)
}

// Trouble are the lines of a kernel's log that should not be there: warnings,
// oopses and hangs.
func (r Result) Trouble() []string {
	var out []string
	for line := range strings.Lines(r.Kernel) {
		for _, bad := range []string{"WARNING:", "BUG:", "Oops", "Call Trace", "blocked for more than", "soft lockup", "rcu_sched self-detected", "general protection"} {
			if strings.Contains(line, bad) {
				out = append(out, strings.TrimSpace(line))
				break
			}
		}
	}
	return out
}

// tail are the last n lines of text.
func tail(text string, n int) string {
	lines := strings.Split(strings.TrimRight(text, "\n"), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}

func sortedKeys(m map[string]string) []string { return slices.Sorted(maps.Keys(m)) }

// String names the kernel as its package does.
func (k Kernel) String() string { return fmt.Sprintf("kernel %s", string(k)) }
