package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/internal/bench/tgt"
)

// demoTarget is what "iserd serve --demo" serves as LUN 0: 1 GiB of memory.
const demoTarget = "iqn.2026-11.io.github.iserd:demo"

// peer is one of the two servers, or one of its transports.
type peer struct {
	name string
	url  initiator.URL
	pid  int
	stop func()
	fresh
}

// fresh is what is measured of a server that has just started.
type fresh struct {
	StartMillis float64 `json:"start_to_listening_ms"`
	RSSMiB      float64 `json:"rss_mib"`          // with a 1 GiB LUN nobody has written to
	IdlePercent float64 `json:"idle_cpu_percent"` // of one CPU
}

// peerSet are those that lines compare. iserd is over TCP; iser is the same process
// over iSER, by iWARP in software, at the same address.
type peerSet struct {
	tgt, iserd, iser *peer
	dir              string
}

func (p *peerSet) close() {
	for _, x := range []*peer{p.tgt, p.iserd} {
		if x != nil {
			x.stop()
		}
	}
	_ = os.RemoveAll(p.dir)
}

// start runs both servers and looks at them while they are fresh.
func (s *settings) start(ctx context.Context) (*peerSet, error) {
	dir, err := os.MkdirTemp("/dev/shm", "iserd-compare-")
	if err != nil {
		return nil, err
	}
	p := &peerSet{dir: dir}
	if p.tgt, err = s.startTgt(ctx, filepath.Join(dir, "disk")); err == nil {
		p.iserd, err = s.startIserd(ctx, dir)
	}
	if err == nil {
		over := *p.iserd
		over.name, over.url.ISER = "iser", true
		p.iser = &over
		err = s.observe(ctx, p)
	}
	if err != nil {
		p.close()
		return nil, err
	}
	return p, nil
}

func (s *settings) pinned() []string {
	return []string{"taskset", "-c", strconv.Itoa(s.serverCPU)}
}

func (s *settings) startTgt(ctx context.Context, file string) (*peer, error) {
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		return nil, err
	}
	if err := os.Truncate(file, 1<<30); err != nil {
		return nil, err
	}
	begin := time.Now()
	srv, err := tgt.Start(ctx, tgt.Config{Backing: file, Prefix: s.pinned()})
	if err != nil {
		return nil, err
	}
	p := &peer{name: "tgt", pid: srv.PID(), stop: func() { _ = srv.Close() }}
	p.StartMillis = float64(srv.Listening.Sub(begin).Microseconds()) / 1000
	p.url, err = initiator.ParseURL(srv.URL(1))
	return p, err
}

func (s *settings) startIserd(ctx context.Context, dir string) (*peer, error) {
	bin := s.iserd
	if bin == "" {
		bin = filepath.Join(dir, "iserd")
		cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", bin, "github.com/iserd/iserd/cmd/iserd")
		if out, err := cmd.CombinedOutput(); err != nil {
			return nil, fmt.Errorf("go build: %w\n%s", err, out)
		}
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return nil, err
	}
	addr := l.Addr().String()
	_ = l.Close()
	args := append(s.pinned(), bin, "serve", "--demo", "--listen", addr)
	cmd := exec.Command(args[0], args[1:]...)
	begin := time.Now()
	if err := cmd.Start(); err != nil {
		return nil, err
	}
	p := &peer{name: "iserd", pid: cmd.Process.Pid, stop: func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}}
	if err := tgt.WaitListening(ctx, addr, 10*time.Second); err != nil {
		p.stop()
		return nil, fmt.Errorf("iserd does not listen: %w", err)
	}
	p.StartMillis = float64(time.Since(begin).Microseconds()) / 1000
	p.url, err = initiator.ParseURL("iscsi://" + addr + "/" + demoTarget + "/0")
	return p, err
}

// observe measures memory and idle CPU time of the fresh servers.
func (s *settings) observe(ctx context.Context, p *peerSet) error {
	const idle = 3 * time.Second
	select {
	case <-time.After(time.Second): // start-up work
	case <-ctx.Done():
		return ctx.Err()
	}
	both := []*peer{p.tgt, p.iserd}
	var before [2]time.Duration
	for i, x := range both {
		var err error
		if before[i], err = cpuTime(x.pid); err != nil {
			return err
		}
	}
	time.Sleep(idle)
	for i, x := range both {
		after, err := cpuTime(x.pid)
		if err != nil {
			return err
		}
		x.IdlePercent = 100 * float64(after-before[i]) / float64(idle)
		if x.RSSMiB, err = rss(x.pid); err != nil {
			return err
		}
	}
	return nil
}

// cpuTime sums the scheduler's nanoseconds of all threads: idle servers use
// less than the clock tick that /proc/PID/stat counts in.
func cpuTime(pid int) (time.Duration, error) {
	files, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/schedstat", pid))
	if err != nil || len(files) == 0 {
		return 0, fmt.Errorf("process %d is gone", pid)
	}
	var sum time.Duration
	for _, f := range files {
		b, err := os.ReadFile(f)
		if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ESRCH) {
			continue // the thread has ended
		}
		if err != nil {
			return 0, err
		}
		first, _, _ := strings.Cut(string(b), " ")
		n, err := strconv.ParseInt(first, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(n)
	}
	return sum, nil
}

// rss returns the resident memory of a process in MiB.
func rss(pid int) (float64, error) {
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/statm", pid))
	if err != nil {
		return 0, err
	}
	fields := strings.Fields(string(b))
	if len(fields) < 2 {
		return 0, errors.New("statm: unknown format")
	}
	pages, err := strconv.ParseFloat(fields[1], 64)
	return pages * float64(os.Getpagesize()) / (1 << 20), err
}

// pinSelf binds all threads of this process to a CPU; threads to come inherit
// it.
func pinSelf(cpu int) error {
	var set unix.CPUSet
	set.Set(cpu)
	tasks, err := os.ReadDir("/proc/self/task")
	if err != nil {
		return err
	}
	for _, t := range tasks {
		tid, err := strconv.Atoi(t.Name())
		if err != nil {
			return err
		}
		if err := unix.SchedSetaffinity(tid, &set); err != nil && !errors.Is(err, unix.ESRCH) {
			return fmt.Errorf("bind to CPU %d: %w", cpu, err)
		}
	}
	return nil
}
