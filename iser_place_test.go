package iserd_test

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/luns/memory"
)

// A pump runs on the CPUs near its device, and gives its thread back as it was.
func TestISERPlace(t *testing.T) {
	var may unix.CPUSet
	if err := unix.SchedGetaffinity(0, &may); err != nil {
		t.Fatal(err)
	}
	if may.Count() < 2 {
		if os.Getenv("CI") != "" {
			t.Fatal("needs two CPUs")
		}
		t.Skip("needs two CPUs")
	}
	cpu := 0
	for !may.IsSet(cpu) {
		cpu++
	}
	for _, near := range [][]int{{cpu, 1 << 20}, nil, {1 << 20}} {
		want := 0
		if len(near) > 1 {
			want = 1
		}
		t.Run(strconv.Itoa(len(near)), func(t *testing.T) {
			d := newDirectRig(t, false, memory.Options{Size: 16 << 20})
			d.prov.mu.Lock()
			d.prov.cpus = near
			d.prov.mu.Unlock()
			s := d.login(t)
			for range 50 { // longer than a pump goes without yielding
				roundTrip(t, s, 0, 1024)
				if n := threadsOn(t, cpu); n > want {
					t.Fatalf("%d threads are confined to CPU %d, want %d", n, cpu, want)
				}
			}
			// While it yields it is not confined.
			until(t, "the pump's thread is not confined", func() bool { return threadsOn(t, cpu) == want })
		})
		if n := threadsOn(t, cpu); n != 0 {
			t.Errorf("%d threads are confined to CPU %d when the pump has ended", n, cpu)
		}
	}
}

// threadsOn is how many threads may run on this CPU alone.
func threadsOn(t *testing.T, cpu int) (n int) {
	t.Helper()
	files, err := filepath.Glob("/proc/self/task/*/status")
	if err != nil || len(files) == 0 {
		t.Fatal("no threads in /proc", err)
	}
	for _, f := range files {
		b, _ := os.ReadFile(f) // the thread may have ended
		if strings.Contains(string(b), "\nCpus_allowed_list:\t"+strconv.Itoa(cpu)+"\n") {
			n++
		}
	}
	return n
}
