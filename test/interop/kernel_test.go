package interop_test

import (
	_ "embed"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

var (
	//go:embed guest/filesystems.sh
	filesystemsScript string
	//go:embed guest/survive.sh
	surviveScript string
	//go:embed guest/chap.sh
	chapScript string
	//go:embed guest/fio.sh
	fioScript string
)

// guestEnv tells a guest where the daemon is and what its units' numbers are.
func guestEnv(d *target.Daemon, more map[string]string) map[string]string {
	env := map[string]string{"LAB_PORTAL": d.Portal(), "LAB_TARGET": target.IQN, "LUN": strconv.Itoa(d.LUN(0))}
	for i := range d.LUNs {
		env[fmt.Sprintf("LUN%d", i)] = strconv.Itoa(d.LUN(i))
	}
	maps.Copy(env, more)
	return env
}

// fileLUNs are logical units in files of the test, which outlive the daemon.
func fileLUNs(t *testing.T, sizes ...int64) []target.LUN {
	t.Helper()
	dir := t.TempDir()
	luns := make([]target.LUN, len(sizes))
	for i, size := range sizes {
		luns[i] = target.LUN{Size: size, Path: filepath.Join(dir, fmt.Sprintf("lun%d", i)), Thin: true}
	}
	return luns
}

// The Linux kernel's initiator makes file systems, one of them on blocks of 4096
// bytes, writes, logs out, logs in and verifies.
func TestKernelFilesystems(t *testing.T) {
	lab.Gate(t)
	n := lab.NewNet(t)
	files := fileLUNs(t, 256*mib, 512*mib)
	files[1].BlockSize = 4096
	d := target.Start(t, target.Config{Net: n, LUNs: files})
	r := lab.Boot(t, n, lab.Guest{Script: filesystemsScript, Env: guestEnv(d, map[string]string{"BLOCK1": "4096"}), Timeout: 5 * time.Minute})
	for _, fs := range []string{"ext4", "xfs"} {
		if !regexp.MustCompile(fs + `: \d+ files are what was written`).MatchString(r.Output) {
			t.Errorf("guest did not verify %s", fs)
		}
	}
}

// The kernel's initiator logs in by mutual CHAP with every algorithm that it
// has, and neither side takes a wrong secret.
func TestKernelCHAP(t *testing.T) {
	lab.Gate(t)
	algorithms := []string{"MD5", "SHA1", "SHA256", "SHA3-256"}
	if os.Getenv("ISERD_TEST_TARGET") == "tgt" {
		algorithms = algorithms[:1] // it refuses SHA1
	}
	n := lab.NewNet(t)
	d := target.Start(t, target.Config{
		Net: n, LUNs: []target.LUN{{Size: 64 * mib}},
		User: "alice", Secret: "wonderland-2026", MutualUser: "hatter", MutualSecret: "it-is-tea-time",
	})
	r := lab.Boot(t, n, lab.Guest{Script: chapScript, Env: guestEnv(d, map[string]string{
		"ALGORITHMS": strings.Join(algorithms, " "),
		"CHAP_USER":  d.User, "SECRET": d.Secret, "MUTUAL_USER": d.MutualUser, "MUTUAL_SECRET": d.MutualSecret,
	})})
	for _, a := range algorithms {
		if !strings.Contains(r.Output, "lab: logged in with "+a) {
			t.Errorf("no login with %s", a)
		}
	}
	if strings.Contains(d.Log(), d.Secret) || strings.Contains(d.Log(), d.MutualSecret) {
		t.Error("a secret is in the daemon's log")
	}
}

// The kernel's initiator goes on, without an error, while the daemon is killed
// with SIGKILL, or stopped with SIGTERM, and restarted under it. ISERD_KILLS is
// the number of times.
func TestKernelSurvivesKill(t *testing.T) {
	lab.Gate(t)
	t.Run("SIGKILL", func(t *testing.T) { survive(t, 5, (*target.Daemon).Kill) })
	t.Run("SIGTERM", func(t *testing.T) {
		survive(t, 2, func(d *target.Daemon) {
			// The daemon drains its sessions for 5 s at most.
			if took := d.Stop(); took > 7*time.Second {
				t.Errorf("daemon took %v to stop, want 7 s at most", took)
			}
		})
	})
}

func survive(t *testing.T, times int, end func(*target.Daemon)) {
	if s := os.Getenv("ISERD_KILLS"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 1 {
			t.Fatalf("ISERD_KILLS is %q, want a number from 1", s)
		}
		times = n
	}
	n := lab.NewNet(t)
	d := target.Start(t, target.Config{Net: n, LUNs: fileLUNs(t, 256*mib, 512*mib, 64*mib)})
	vm := lab.Start(t, n, lab.Guest{
		Script:  surviveScript,
		Env:     guestEnv(d, nil),
		Timeout: 3 * time.Minute,
	})
	vm.WaitLine("lab: running", time.Minute)
	var restarts []time.Duration
	for range times {
		// A pass that ends after a restart shows that I/O goes on again.
		vm.WaitLine("lab: pass ", 2*time.Minute)
		vm.WaitLine("lab: pass ", 2*time.Minute)
		end(d)
		restarts = append(restarts, d.Restart())
	}
	vm.WaitLine("lab: pass ", 2*time.Minute)
	vm.Signal("stop")
	r := vm.Wait()
	if r.Status != 0 {
		t.Errorf("guest script ended with status %d", r.Status)
	}
	m := regexp.MustCompile(`lab: result passes=(\d+) errors=0 longest_ms=(\d+) kernel=0`).FindStringSubmatch(r.Output)
	if m == nil {
		t.Fatalf("no result without errors from the guest:\n%s", r.Output)
	}
	slices.Sort(restarts)
	t.Logf("%d restarts: %s passes, longest pass %s ms, listening again after %v to %v",
		times, m[1], m[2], restarts[0], restarts[times-1])
	if median := restarts[times/2]; median > 500*time.Millisecond {
		t.Errorf("listening again after %v, want 500 ms", median)
	}
	// A pass takes about 2 s when nothing happens, and a stall may take 10 s.
	if longest, err := strconv.Atoi(m[2]); err != nil || longest > 15000 {
		t.Errorf("longest pass took %s ms, want 15 s at most", m[2])
	}
}

// fio's verification passes in every combination of digests, InitialR2T and
// ImmediateData, 512 B to 1 MiB, 1 to 128 in flight, random and sequential.
func TestKernelFioMatrix(t *testing.T) {
	lab.Gate(t)
	size := "12m"
	if s := os.Getenv("ISERD_FIO_SIZE"); s != "" {
		size = s
	}
	var cells []string
	for _, header := range []string{"None", "CRC32C"} {
		for _, data := range []string{"None", "CRC32C"} {
			for _, r2t := range []string{"Yes", "No"} {
				for _, immediate := range []string{"Yes", "No"} {
					cells = append(cells, strings.Join([]string{header, data, r2t, immediate}, "/"))
				}
			}
		}
	}
	n := lab.NewNet(t)
	d := target.Start(t, target.Config{Net: n, LUNs: []target.LUN{{Size: gib}}})
	vm := lab.Start(t, n, lab.Guest{
		Script:  fioScript,
		Env:     guestEnv(d, map[string]string{"CELLS": strings.Join(cells, " "), "SIZE": size}),
		Timeout: 40 * time.Minute,
	})
	if r := vm.Wait(); r.Status != 0 {
		t.Fatalf("guest script ended with status %d:\n%s", r.Status, r.Output)
	}
	const jobs = 7 // in guest/fio.sh
	reports, err := filepath.Glob(filepath.Join(vm.Share(), "fio.*"))
	if err != nil || len(reports) != len(cells) {
		t.Fatalf("%d reports of fio, want %d (%v)", len(reports), len(cells), err)
	}
	for _, path := range reports {
		b, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		checkFio(t, b, jobs)
	}
}
