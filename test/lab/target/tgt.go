package target

import (
	"fmt"
	"maps"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
)

// tgt is Debian's tgtd. LUN 0 is its controller, so disks begin at 1.
type tgt struct{}

func (tgt) lun(i int) int { return i + 1 }

// stopSignal: tgtd ignores SIGTERM while it has targets.
func (tgt) stopSignal() syscall.Signal { return syscall.SIGKILL }

// control is the number of tgtd's control socket, unique on the machine: a
// process has one daemon on a port.
func (tgt) control(d *Daemon) string { return strconv.Itoa(os.Getpid()%300*100 + d.port%100) }

func (tgt) prepare(d *Daemon) error {
	for i := range d.LUNs {
		if d.LUNs[i].Path == "" {
			d.LUNs[i].Path = filepath.Join(d.dir, fmt.Sprintf("lun%d", i))
		}
	}
	return d.backing()
}

func (p tgt) command(d *Daemon) *exec.Cmd {
	return exec.Command("tgtd", "-f", "-C", p.control(d), "--iscsi", "portal="+d.Portal())
}

func (p tgt) configure(d *Daemon) error {
	steps := [][]string{{"--op", "new", "--mode", "target", "--tid", "1", "-T", IQN}}
	for i, l := range d.LUNs {
		lun := strconv.Itoa(p.lun(i))
		steps = append(steps, []string{"--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", lun, "-b", l.Path})
		params := ""
		if l.Thin {
			params = "thin_provisioning=1"
		}
		if l.ReadOnly {
			params = "readonly=1"
		}
		if l.Removable {
			params = "removable=1"
		}
		if params != "" {
			steps = append(steps, []string{"--op", "update", "--mode", "logicalunit", "--tid", "1", "--lun", lun, "--params", params})
		}
	}
	session := map[string]string{"HeaderDigest": "CRC32C,None", "DataDigest": "CRC32C,None", "InitialR2T": "No", "ImmediateData": "Yes"}
	maps.Copy(session, d.Session)
	for k, v := range session {
		steps = append(steps, []string{"--op", "update", "--mode", "target", "--tid", "1", "-n", k, "-v", v})
	}
	if d.User != "" {
		steps = append(steps, []string{"--op", "new", "--mode", "account", "--user", d.User, "--password", d.Secret},
			[]string{"--op", "bind", "--mode", "account", "--tid", "1", "--user", d.User})
	}
	if d.MutualUser != "" {
		steps = append(steps, []string{"--op", "new", "--mode", "account", "--user", d.MutualUser, "--password", d.MutualSecret},
			[]string{"--op", "bind", "--mode", "account", "--tid", "1", "--user", d.MutualUser, "--outgoing"})
	}
	steps = append(steps, []string{"--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"})
	for _, args := range steps {
		if out, err := exec.Command("tgtadm", append([]string{"-C", p.control(d), "--lld", "iscsi"}, args...)...).CombinedOutput(); err != nil {
			return fmt.Errorf("tgtadm %v: %w\n%s", args, err, out)
		}
	}
	return nil
}
