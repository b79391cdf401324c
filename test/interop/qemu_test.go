package interop_test

import (
	"context"
	"encoding/json"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
	"github.com/iserd/iserd/test/lab/target"
)

// image writes an image of size bytes as a disk has it, data with holes
// between, and returns its path. The seed makes the data.
func image(t *testing.T, size int64, seed uint64) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "image")
	f, err := os.Create(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.Truncate(size); err != nil {
		t.Fatal(err)
	}
	src := rand.NewChaCha8([32]byte{byte(seed)})
	buf := make([]byte, mib)
	for off := int64(0); off < size; off += mib {
		if off/mib%8 == 7 {
			continue
		}
		_, _ = src.Read(buf)
		if _, err := f.WriteAt(buf, off); err != nil {
			t.Fatal(err)
		}
	}
	if err := f.Close(); err != nil {
		t.Fatal(err)
	}
	return path
}

// qemu-img copies an image to the logical unit through QEMU's own iSCSI
// driver, compares the two, and copies it back.
func TestQEMUImage(t *testing.T) {
	lab.Gate(t)
	lab.NeedTools(t, "qemu-img")
	const size = 256 * mib
	for _, thin := range []bool{false, true} {
		t.Run(fmt.Sprintf("thin=%t", thin), func(t *testing.T) {
			d := target.Start(t, target.Config{LUNs: []target.LUN{{Size: size, Thin: thin}}})
			img := image(t, size, 1)
			info := run(t, "qemu-img", "info", "-f", "raw", "--output=json", d.URL(0))
			if want := fmt.Sprintf(`"virtual-size": %d`, size); !strings.Contains(info, want) {
				t.Errorf("qemu-img info lacks %s:\n%s", want, info)
			}
			run(t, "qemu-img", "convert", "-n", "-f", "raw", "-O", "raw", img, d.URL(0))
			out := run(t, "qemu-img", "compare", "-f", "raw", "-F", "raw", img, d.URL(0))
			if !strings.Contains(out, "Images are identical") {
				t.Errorf("qemu-img compare: %s", out)
			}
			back := filepath.Join(t.TempDir(), "back")
			run(t, "qemu-img", "convert", "-f", "raw", "-O", "raw", d.URL(0), back)
			run(t, "cmp", img, back)
			// That the comparison can fail at all.
			other := image(t, size, 2)
			if err := exec.Command("qemu-img", "compare", "-f", "raw", "-F", "raw", other, d.URL(0)).Run(); err == nil {
				t.Error("qemu-img compare finds another image identical")
			}
		})
	}
}

// fio writes and verifies through qemu-nbd, whose other side is QEMU's iSCSI
// driver, with and without header digests: an initiator that is not the
// kernel's, with 128 commands in flight.
func TestQEMUFio(t *testing.T) {
	lab.Gate(t)
	lab.NeedTools(t, "qemu-nbd", "fio")
	for _, digest := range []string{"none", "crc32c"} {
		t.Run("header-digest="+digest, func(t *testing.T) {
			d := target.Start(t, target.Config{LUNs: []target.LUN{{Size: 256 * mib}}})
			socket := qemuNBD(t, d, digest)
			uri := "nbd+unix:///?socket=" + socket
			for _, depth := range []string{"1", "32", "128"} {
				fio(t, "--ioengine=nbd", "--uri="+uri, "--name=q"+depth, "--rw=randwrite", "--size=64m",
					"--bsrange=512-1m", "--blockalign=512", "--iodepth="+depth)
				fio(t, "--ioengine=nbd", "--uri="+uri, "--name=s"+depth, "--rw=write", "--size=64m",
					"--bs=1m", "--iodepth="+depth)
			}
		})
	}
}

// qemuNBD exports the daemon's first logical unit on a socket, whose path it
// returns.
func qemuNBD(t *testing.T, d *target.Daemon, headerDigest string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "nbd")
	opts := fmt.Sprintf("driver=raw,file.driver=iscsi,file.transport=tcp,file.portal=%s,file.target=%s,file.lun=%d,file.header-digest=%s",
		d.Portal(), target.IQN, d.LUN(0), headerDigest)
	var log strings.Builder
	cmd := exec.Command("qemu-nbd", "--image-opts", "--cache=none", "--aio=threads", "--persistent", "--socket", socket, opts)
	cmd.Stdout, cmd.Stderr = &log, &log
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("qemu-nbd: %s", log.String())
		}
	})
	for range 200 {
		if _, err := os.Stat(socket); err == nil {
			return socket
		}
		time.Sleep(50 * time.Millisecond)
	}
	t.Fatal("qemu-nbd does not listen")
	return ""
}

// fio runs one write-and-verify job with crc32c and fails the test at any
// error, and when nothing was verified.
func fio(t *testing.T, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	args = append([]string{"--output-format=json", "--verify=crc32c", "--verify_fatal=1", "--do_verify=1", "--randrepeat=1", "--norandommap=0"}, args...)
	cmd := exec.CommandContext(ctx, "fio", args...)
	cmd.Dir = t.TempDir()
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("fio %v: %v\n%s", args, err, out)
	}
	checkFio(t, out, 1)
}

// checkFio reads fio's JSON report, which must have that many jobs.
func checkFio(t *testing.T, report []byte, jobs int) {
	t.Helper()
	if i := strings.IndexByte(string(report), '{'); i > 0 { // notes come first
		report = report[i:]
	}
	var r struct {
		Jobs []struct {
			Name  string `json:"jobname"`
			Error int    `json:"error"`
			Read  struct {
				Bytes int64 `json:"io_bytes"`
			} `json:"read"`
			Write struct {
				Bytes int64 `json:"io_bytes"`
			} `json:"write"`
		} `json:"jobs"`
	}
	if err := json.Unmarshal(report, &r); err != nil {
		t.Fatalf("fio's report: %v\n%s", err, report)
	}
	if len(r.Jobs) != jobs {
		t.Fatalf("fio's report has %d jobs, want %d:\n%s", len(r.Jobs), jobs, report)
	}
	for _, j := range r.Jobs {
		if j.Error != 0 {
			t.Errorf("fio job %s: error %d", j.Name, j.Error)
		}
		if j.Write.Bytes == 0 || j.Read.Bytes == 0 {
			t.Errorf("fio job %s wrote %d and verified %d bytes, want some of both", j.Name, j.Write.Bytes, j.Read.Bytes)
		}
		t.Logf("fio %s: %d MiB written, %d MiB verified", j.Name, j.Write.Bytes/mib, j.Read.Bytes/mib)
	}
}
