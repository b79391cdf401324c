package lab

import (
	"bufio"
	"embed"
	"errors"
	"fmt"
	"io"
	"maps"
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

// The kernel and its modules, as Debian's package user-mode-linux has them.
const (
	kernel  = "linux.uml"
	modules = "/usr/lib/uml/modules"
)

//go:embed guest/init.sh guest/lib.sh guest/xstate.c
var guestFiles embed.FS

// Guest is what to run in a user-mode Linux.
type Guest struct {
	// Script is run by sh with `set -eu`, after guest/lib.sh, in a directory
	// in memory. The run's shared directory is /lab.
	Script string
	// Env are the script's variables, beside LAB_NAME and LAB_ADDR.
	Env map[string]string
	// Memory of the guest in MiB; 0 means 512.
	Memory int
	// Timeout ends the run, boot and shutdown included; 0 means 2 minutes.
	Timeout time.Duration
}

// Result is what a guest left.
type Result struct {
	Status int    // exit status of the script; -1 when it did not end by itself
	Output string // console: the script's output and the kernel's warnings
}

// VM is a running guest.
type VM struct {
	t     testing.TB
	cmd   *exec.Cmd
	share string
	limit time.Duration
	done  chan struct{} // closed when the guest is gone and its output read

	mu    sync.Mutex
	lines []string
	next  int           // first line WaitLine has not looked at
	more  chan struct{} // closed and replaced at each line
}

// Boot runs g to its end on n and fails the test when the script fails.
func Boot(t testing.TB, n *Net, g Guest) Result {
	t.Helper()
	r := Start(t, n, g).Wait()
	if r.Status != 0 {
		t.Fatalf("lab: guest script ended with status %d:\n%s", r.Status, r.Output)
	}
	return r
}

// Start boots a guest on n; nil means no network. The guest is killed at the
// end of the test if it is still there.
func Start(t testing.TB, n *Net, g Guest) *VM {
	t.Helper()
	NeedRoot(t)
	NeedTools(t, kernel, "debootstrap")
	if g.Timeout == 0 {
		g.Timeout = 2 * time.Minute
	}
	vm := &VM{t: t, share: t.TempDir(), limit: g.Timeout, done: make(chan struct{}), more: make(chan struct{})}
	if err := vm.fill(g, n != nil); err != nil {
		t.Fatalf("lab: %v", err)
	}
	vm.cmd = exec.Command(kernel, kernelArgs(g, root(t), vm.share, n != nil)...)
	vm.cmd.Env = preload(t, vm.share)
	// A group of its own: the guest's processes are processes of the host.
	vm.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	console, input, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	vm.cmd.Stdout, vm.cmd.Stderr = input, input
	if err := n.StartCommand(vm.cmd); err != nil {
		t.Fatalf("lab: %v", err)
	}
	_ = input.Close()
	go vm.read(console)
	t.Cleanup(vm.kill)
	return vm
}

// fill writes what the guest finds in /lab.
func (vm *VM) fill(g Guest, network bool) error {
	for _, name := range []string{"init.sh", "lib.sh"} {
		b, err := guestFiles.ReadFile("guest/" + name)
		if err != nil {
			return err
		}
		if err := os.WriteFile(filepath.Join(vm.share, name), b, 0o644); err != nil {
			return err
		}
	}
	env := map[string]string{"LAB_NAME": "guest", "LAB_ADDR": "", "LAB_MODULES": modules}
	if network {
		env["LAB_ADDR"] = GuestAddr + prefix
	}
	maps.Copy(env, g.Env)
	var b strings.Builder
	for _, k := range slices.Sorted(maps.Keys(env)) {
		fmt.Fprintf(&b, "export %s='%s'\n", k, strings.ReplaceAll(env[k], "'", `'\''`))
	}
	return errors.Join(
		os.WriteFile(filepath.Join(vm.share, "env"), []byte(b.String()), 0o644),
		os.WriteFile(filepath.Join(vm.share, "guest.sh"), []byte(g.Script), 0o644))
}

func kernelArgs(g Guest, root, share string, network bool) []string {
	memory := g.Memory
	if memory == 0 {
		memory = 512
	}
	args := []string{
		"root=/dev/root", "rootfstype=hostfs", "rootflags=" + root, "ro",
		"init=/lab-init", "lab=" + share, "uml_dir=" + filepath.Join(share, "uml"),
		fmt.Sprintf("mem=%dM", memory),
		"con=null", "con0=fd:0,fd:1", "quiet", "loglevel=4", "panic=-1",
	}
	if network {
		args = append(args, "vec0:transport=tap,ifname="+Device+",depth=128,gro=1")
	}
	return args
}

// read collects the console until the guest is gone.
func (vm *VM) read(console io.ReadCloser) {
	defer close(vm.done)
	up := false
	for s := bufio.NewScanner(console); s.Scan(); {
		line := strings.TrimRight(s.Text(), "\r")
		vm.mu.Lock()
		vm.lines = append(vm.lines, line)
		close(vm.more)
		vm.more = make(chan struct{})
		vm.mu.Unlock()
		up = up || strings.HasPrefix(line, "lab: up")
		if up { // what the kernel says before is the same each time
			vm.t.Log("guest| " + line)
		}
	}
	_ = console.Close()
	_ = vm.cmd.Wait()
}

// kill ends the guest at once.
func (vm *VM) kill() {
	_ = syscall.Kill(-vm.cmd.Process.Pid, syscall.SIGKILL)
	<-vm.done
}

// Share is the directory of the host that the guest sees as /lab.
func (vm *VM) Share() string { return vm.share }

// Signal creates an empty file in the shared directory, for a script that
// waits for it.
func (vm *VM) Signal(name string) {
	vm.t.Helper()
	if err := os.WriteFile(filepath.Join(vm.share, name), nil, 0o644); err != nil {
		vm.t.Fatal(err)
	}
}

// WaitLine waits for the next line of the console that begins with prefix and
// returns the rest of it. Lines are looked at once. It fails the test when the
// guest ends or the time is over first.
func (vm *VM) WaitLine(prefix string, timeout time.Duration) string {
	vm.t.Helper()
	deadline := time.After(timeout)
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
			vm.t.Fatalf("lab: guest ended before it said %q:\n%s", prefix, vm.output())
		}
		select {
		case <-more:
		case <-vm.done:
			gone = true // one more look: its last lines came before
		case <-deadline:
			vm.t.Fatalf("lab: guest did not say %q in %v:\n%s", prefix, timeout, vm.output())
		}
	}
}

// Wait waits for the guest's end. It fails the test when the guest's time is
// over first.
func (vm *VM) Wait() Result {
	vm.t.Helper()
	select {
	case <-vm.done:
	case <-time.After(vm.limit):
		vm.kill()
		vm.t.Fatalf("lab: guest was not done in %v:\n%s", vm.limit, vm.output())
	}
	status := -1
	if b, err := os.ReadFile(filepath.Join(vm.share, "status")); err == nil {
		if n, err := strconv.Atoi(strings.TrimSpace(string(b))); err == nil {
			status = n
		}
	}
	return Result{Status: status, Output: vm.output()}
}

func (vm *VM) output() string {
	vm.mu.Lock()
	defer vm.mu.Unlock()
	return strings.Join(vm.lines, "\n")
}
