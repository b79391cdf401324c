package target

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"

	"github.com/iserd/iserd/test/lab"
)

// iserd is the daemon of this repository.
type iserd struct{}

func (iserd) stopSignal() syscall.Signal { return syscall.SIGTERM }
func (iserd) lun(i int) int              { return i }
func (iserd) configure(*Daemon) error    { return nil }
func (iserd) config(d *Daemon) string    { return filepath.Join(d.dir, "iserd.hcl") }
func (iserd) state(d *Daemon) string     { return filepath.Join(d.dir, "state") }
func (p iserd) prepare(d *Daemon) error {
	if _, err := Binary(); err != nil {
		return err
	}
	if d.StateDir {
		if err := os.MkdirAll(p.state(d), 0o700); err != nil {
			return err
		}
	}
	return p.write(d)
}

func (p iserd) write(d *Daemon) error {
	text := fmt.Sprintf("console { listen = %q }\n", "unix:"+d.console())
	if d.HCL != nil {
		text += d.HCL(d)
	} else {
		text += p.hcl(d)
	}
	return os.WriteFile(p.config(d), []byte(text), 0o600)
}

// console is the administrator's socket.
func (d *Daemon) console() string { return filepath.Join(d.dir, "console.sock") }

// Rewrite writes another configuration file, for a reload.
func (d *Daemon) Rewrite(hcl func(d *Daemon) string) {
	d.t.Helper()
	d.HCL = hcl
	if err := (iserd{}).write(d); err != nil {
		d.t.Fatal(err)
	}
}

// Iserd runs a command of iserd that talks to the daemon, such as "status", and
// returns what it printed. It fails the test when the command does.
func (d *Daemon) Iserd(args ...string) string {
	d.t.Helper()
	bin, err := Binary()
	if err != nil {
		d.t.Fatal(err)
	}
	cmd := exec.Command(bin, args...)
	cmd.Env = append(os.Environ(), "ISERD_CONSOLE=unix:"+d.console())
	out, err := cmd.CombinedOutput()
	if err != nil {
		d.t.Fatalf("iserd %v: %v\n%s", args, err, out)
	}
	return string(out)
}

func (p iserd) command(d *Daemon) *exec.Cmd {
	bin, err := Binary()
	if err != nil { // prepare had it
		d.t.Fatal(err)
	}
	return exec.Command(bin, "serve", "--config", p.config(d))
}

// hclKeys are the arguments of a session block, by the parameter's name.
var hclKeys = map[string]string{
	"InitialR2T":               "initial_r2t",
	"ImmediateData":            "immediate_data",
	"MaxRecvDataSegmentLength": "max_recv_data_segment_length",
	"MaxBurstLength":           "max_burst_length",
	"FirstBurstLength":         "first_burst_length",
	"MaxOutstandingR2T":        "max_outstanding_r2t",
}

// hcl is the configuration file of d.
func (p iserd) hcl(d *Daemon) string {
	var b strings.Builder
	w := func(format string, args ...any) { fmt.Fprintf(&b, format, args...) }
	w("log { level = %q }\n%s", "info", d.Limits)
	if d.StateDir {
		w("node { state_dir = %q }\n", p.state(d))
	}
	w("portal_group \"test\" {\n  tag = 1\n  portal %q {}\n", d.Portal())
	for _, portal := range d.Portals {
		w("  portal %q {}\n", portal)
	}
	w("}\n")
	if d.User != "" {
		w("auth \"test\" {\n  type = %q\n  user %q { secret = %q }\n", d.authType(), d.User, d.Secret)
		if d.MutualUser != "" {
			w("  mutual {\n    user = %q\n    secret = %q\n  }\n", d.MutualUser, d.MutualSecret)
		}
		w("}\n")
	}
	for i, l := range d.LUNs {
		if l.Path != "" {
			w("backend \"file\" \"lun%d\" { path = %q }\n", i, l.Path)
		} else {
			w("backend \"memory\" \"lun%d\" { size = \"%dB\" }\n", i, l.Size)
		}
	}
	w("target %q {\n  portal_groups = [\"test\"]\n", IQN)
	if d.User != "" {
		w("  auth = \"test\"\n")
	} else {
		w("  insecure = true\n")
	}
	w("  session {\n    header_digest = [\"None\", \"CRC32C\"]\n    data_digest = [\"None\", \"CRC32C\"]\n")
	for _, k := range slices.Sorted(maps.Keys(d.Session)) {
		w("    %s = %s\n", hclKeys[k], hclValue(d.Session[k]))
	}
	w("  }\n")
	for i, l := range d.LUNs {
		kind := "memory"
		if l.Path != "" {
			kind = "file"
		}
		w("  lun \"%d\" {\n    backend = backend.%s.lun%d\n    thin = %t\n    read_only = %t\n    removable = %t\n",
			i, kind, i, l.Thin, l.ReadOnly, l.Removable)
		if l.BlockSize != 0 {
			w("    block_size = \"%dB\"\n", l.BlockSize)
		}
		w("%s\n  }\n", l.HCL)
	}
	w("}\n")
	return b.String()
}

func (d *Daemon) authType() string {
	if d.MutualUser != "" {
		return "mutual-chap"
	}
	return "chap"
}

// hclValue writes a text key's value: a boolean, a number.
func hclValue(v string) string {
	switch v {
	case "Yes":
		return "true"
	case "No":
		return "false"
	default:
		return v
	}
}

// Binary is the path of the iserd to test: ISERD_BIN, or what `go build` makes
// of this source tree, with the race detector when ISERD_RACE is set.
var Binary = sync.OnceValues(func() (string, error) {
	if bin := os.Getenv("ISERD_BIN"); bin != "" {
		return filepath.Abs(bin)
	}
	cache, err := lab.CacheDir()
	if err != nil {
		return "", err
	}
	mod, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		return "", fmt.Errorf("go env GOMOD: %w", err)
	}
	root := filepath.Dir(strings.TrimSpace(string(mod)))
	// One binary for each source tree, replaced in one step: other tests may
	// run the old one.
	sum := sha256.Sum256([]byte(root + os.Getenv("ISERD_RACE")))
	bin := filepath.Join(cache, "iserd-under-test-"+hex.EncodeToString(sum[:6]))
	part := fmt.Sprintf("%s.%d", bin, os.Getpid())
	args := []string{"build", "-o", part}
	if os.Getenv("ISERD_RACE") != "" {
		args = append(args, "-race")
	}
	build := exec.Command("go", append(args, "./cmd/iserd")...)
	build.Dir = root
	if out, err := build.CombinedOutput(); err != nil {
		return "", fmt.Errorf("go build ./cmd/iserd: %w\n%s", err, out)
	}
	return bin, os.Rename(part, bin)
})
