package bench_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/internal/bench"
	"github.com/iserd/iserd/internal/bench/tgt"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// startTgt runs Debian's tgt; file is what is behind its LUN 1.
func startTgt(t *testing.T, size int64) (srv *tgt.Server, file string) {
	t.Helper()
	file = filepath.Join(t.TempDir(), "disk")
	if err := os.WriteFile(file, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Truncate(file, size); err != nil {
		t.Fatal(err)
	}
	srv, err := tgt.Start(t.Context(), tgt.Config{Backing: file})
	if errors.Is(err, tgt.ErrMissing) && os.Getenv("CI") == "" {
		t.Skip(err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = srv.Close() })
	return srv, file
}

func options(t *testing.T, srv *tgt.Server) bench.Options {
	t.Helper()
	o := bench.DefaultOptions()
	u, err := initiator.ParseURL(srv.URL(1))
	if err != nil {
		t.Fatal(err)
	}
	o.URL = u
	o.Count = 2000
	return o
}

func run(t *testing.T, o bench.Options) (*bench.Report, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	return bench.Run(ctx, o)
}

func TestRun(t *testing.T) {
	srv, _ := startTgt(t, 64<<20)
	tests := []struct {
		name   string
		adjust func(o *bench.Options)
		reads  bool
		writes bool
	}{
		{"randread", func(*bench.Options) {}, true, false},
		{"randwrite", func(o *bench.Options) { o.Mode = bench.RandWrite }, false, true},
		{"randrw", func(o *bench.Options) { o.Mode = bench.RandRW }, true, true},
		{"read 256K", func(o *bench.Options) { o.Mode, o.BlockSize, o.Count = bench.SeqRead, 256<<10, 500 }, true, false},
		{"write 128K", func(o *bench.Options) { o.Mode, o.BlockSize, o.Count = bench.SeqWrite, 128<<10, 500 }, false, true},
		{"sessions", func(o *bench.Options) { o.Sessions, o.QueueDepth = 16, 4 }, true, false},
		{"polling", func(o *bench.Options) { o.QueueDepth, o.Poll = 1, 50*time.Microsecond }, true, false},
		{"verify", func(o *bench.Options) { o.Mode, o.Verify, o.Sessions = bench.RandRW, true, 4 }, true, true},
		{"verify few places", func(o *bench.Options) { o.Mode, o.Verify, o.Size = bench.RandRW, true, 32*4096 }, true, true},
		{"verify sequential", func(o *bench.Options) { o.Mode, o.Verify, o.BlockSize = bench.SeqRW, true, 64<<10 }, true, true},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, srv)
			tt.adjust(&o)
			r, err := run(t, o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Total.IOs != o.Count || (r.Read.IOs > 0) != tt.reads || (r.Write.IOs > 0) != tt.writes {
				t.Errorf("%d I/Os: %d reads, %d writes", r.Total.IOs, r.Read.IOs, r.Write.IOs)
			}
			if l := r.Total.Latency; l.P50 <= 0 || l.P50 > l.P99 || l.P99 > l.Max {
				t.Errorf("latency %+v", l)
			}
			if r.Fairness <= 0 || r.Fairness > 1 {
				t.Errorf("fairness %v", r.Fairness)
			}
		})
	}
}

func TestTimedRun(t *testing.T) {
	srv, _ := startTgt(t, 16<<20)
	o := options(t, srv)
	o.Count, o.Duration, o.Ramp, o.PID = 0, 300*time.Millisecond, 50*time.Millisecond, srv.PID()
	r, err := run(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.Total.IOs == 0 || r.Seconds != 0.3 || r.Server == nil || r.Server.PerIO <= 0 || r.Generator.PerIO <= 0 {
		t.Errorf("%+v, server %+v", r, r.Server)
	}
}

func TestManyLUNs(t *testing.T) {
	srv, file := startTgt(t, 8<<20)
	for _, n := range []string{"2", "3"} {
		other := filepath.Join(filepath.Dir(file), "disk"+n)
		if err := os.WriteFile(other, make([]byte, 4<<20), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := srv.Admin("--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", n, "-b", other); err != nil {
			t.Fatal(err)
		}
	}
	o := options(t, srv)
	o.LUNs, o.Mode, o.Verify, o.Sessions = []uint16{1, 2, 3}, bench.RandRW, true, 3
	r, err := run(t, o)
	if err != nil {
		t.Fatal(err)
	}
	if r.LUNs != 3 || r.Total.IOs != o.Count || r.Verify.CheckedReads == 0 {
		t.Errorf("%+v, verify %+v", r, r.Verify)
	}
}

// TestVerifyFinds changes a file behind the target's back.
func TestVerifyFinds(t *testing.T) {
	srv, file := startTgt(t, 1<<20)
	o := options(t, srv)
	o.Mode, o.Verify, o.Count = bench.SeqWrite, true, 1<<20/4096
	if _, err := run(t, o); err != nil {
		t.Fatal(err)
	}
	o.Mode = bench.SeqRead
	if _, err := run(t, o); err != nil {
		t.Fatalf("untouched data: %v", err)
	}
	good, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	tests := []struct {
		name  string
		spoil func(b []byte)
		want  string
	}{
		{"bit flip", func(b []byte) { b[300000] ^= 1 }, "CRC mismatch"},
		{"zeroed block", func(b []byte) { clear(b[512*77 : 512*78]) }, "LBA 77: no pattern"},
		{"misdirected", func(b []byte) { copy(b[4096*9:4096*10], b[4096*10:]) }, "misdirected"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			b := bytes.Clone(good)
			tt.spoil(b)
			if err := os.WriteFile(file, b, 0o600); err != nil {
				t.Fatal(err)
			}
			_, err := run(t, o)
			var verify *bench.VerifyError
			if !errors.As(err, &verify) || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestRunRefuses(t *testing.T) {
	srv, _ := startTgt(t, 1<<20)
	tests := []struct {
		name   string
		adjust func(o *bench.Options)
		want   string
	}{
		{"no target", func(o *bench.Options) { o.URL.TargetName = "" }, "names no target"},
		{"no LUN", func(o *bench.Options) { o.URL.HasLUN = false }, "which LUN"},
		{"absent LUN", func(o *bench.Options) { o.LUNs = []uint16{9} }, "LUN 9: initiator: SCSI status 0x02, sense 5/25/00"},
		{"unknown target", func(o *bench.Options) { o.URL.TargetName = "iqn.2026-11.com.example:none" }, "login refused"},
		{"block size", func(o *bench.Options) { o.BlockSize = 1000 }, "block size 1000"},
		{"offset", func(o *bench.Options) { o.Offset = 1 << 20 }, "offset 1048576 does not fit"},
		{"too many sessions", func(o *bench.Options) { o.Sessions, o.Verify = 300, true }, "too small"},
		{"no process", func(o *bench.Options) { o.PID = 1 << 30 }, "CPU time"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, srv)
			tt.adjust(&o)
			if _, err := run(t, o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("error %v, want %q", err, tt.want)
			}
		})
	}
}

func TestCommand(t *testing.T) {
	srv, _ := startTgt(t, 16<<20)
	tests := []struct {
		name string
		args []string
		want string // in output or error
		ok   bool
	}{
		{"table", []string{"-n", "500"}, "randread, 4 KiB, queue depth 32", true},
		{"server CPU", []string{"-n", "500", "--pid", strconv.Itoa(srv.PID())}, "server", true},
		{"verify", []string{"-n", "500", "-m", "rw", "-b", "8K", "--verify", "--overwrite"}, "no mismatch", true},
		{"sessions", []string{"-n", "500", "-s", "4", "-q", "2"}, "fairness", true},
		{"writes need consent", []string{"-m", "write"}, "--overwrite", false},
		{"mode", []string{"-m", "backwards"}, "want one of randread", false},
		{"size", []string{"-b", "4Q"}, "want a number with K", false},
		{"LUNs", []string{"-l", "5-2"}, "want a list such as", false},
		{"output", []string{"-o", "xml"}, "want table or json", false},
		{"secret file", []string{"--chap-user", "x"}, "belong together", false},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			out, err := command(t, append(tt.args, srv.URL(1))...)
			if err != nil {
				out += err.Error()
			}
			if (err == nil) != tt.ok || !strings.Contains(out, tt.want) {
				t.Errorf("error %v, output:\n%s\nwant %q", err, out, tt.want)
			}
		})
	}
	t.Run("json", func(t *testing.T) {
		out, err := command(t, "-n", "500", "-o", "json", srv.URL(1))
		if err != nil {
			t.Fatal(err)
		}
		var r bench.Report
		if err := json.Unmarshal([]byte(out), &r); err != nil || r.Total.IOs != 500 || r.Mode != "randread" {
			t.Errorf("%v: %s", err, out)
		}
	})
}

func command(t *testing.T, args ...string) (string, error) {
	t.Helper()
	cmd := bench.NewCommand()
	var out bytes.Buffer
	cmd.SetOut(&out)
	cmd.SetErr(&out)
	cmd.SetArgs(args)
	err := cmd.ExecuteContext(t.Context())
	return out.String(), err
}
