package target

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/iserd/iserd/test/lab"
)

// IQN is the name of the one target that a Daemon has.
const IQN = "iqn.2026-11.io.github.iserd:test"

// LUN describes a logical unit.
type LUN struct {
	Size     int64  // bytes
	Path     string // backing file, made when it is not there; empty: memory
	Thin     bool   // thin provisioned: UNMAP
	ReadOnly bool
	// Removable makes the medium one that can be locked and ejected.
	Removable bool
	// BlockSize is the logical block length in bytes; 0 is 512.
	BlockSize int
	// HCL are more lines for the lun block of iserd's configuration.
	HCL string
}

// Config describes the daemon under test.
type Config struct {
	// Program is the daemon, "iserd" or "tgt"; empty: as ISERD_TEST_TARGET says.
	Program string
	Net     *lab.Net // where it listens; nil: the loopback, on a free port
	// Portals are more addresses and ports that iserd listens on.
	Portals []string
	// StateDir has iserd keep its state, such as persistent reservations, over
	// restarts.
	StateDir bool
	LUNs     []LUN
	// Limits is the limits block of iserd's configuration, whole.
	Limits string
	// Session are parameters by their RFC 7143 names, such as "InitialR2T":
	// "Yes" or "MaxBurstLength": "262144"; what is left out is the daemon's
	// default. Digests are always None and CRC32C, as the initiator likes.
	Session map[string]string
	// User and Secret ask the initiator for CHAP when they are not empty;
	// MutualUser and MutualSecret are the daemon's own proof.
	User, Secret             string
	MutualUser, MutualSecret string
	// HCL, when it is not nil, makes iserd's whole configuration but for the
	// console, in place of what the fields above say; Portal() listens then.
	HCL func(d *Daemon) string
}

// program is a target daemon that the harness knows how to run.
type program interface {
	// prepare is called once, before the first start.
	prepare(d *Daemon) error
	// command is the process that serves in the foreground.
	command(d *Daemon) *exec.Cmd
	// configure is called each time that the daemon listens.
	configure(d *Daemon) error
	// lun is the number under which the initiator finds Config.LUNs[i].
	lun(i int) int
	// stopSignal ends the process in good order.
	stopSignal() syscall.Signal
}

// Daemon is a target daemon that was started by a test.
type Daemon struct {
	Config
	t    testing.TB
	prog program
	host string
	port int
	dir  string // of the daemon's own files
	log  *os.File

	cmd  *exec.Cmd
	gone chan struct{} // closed when cmd has ended
}

// Start starts the daemon and returns when it listens. At the end of the test
// it is stopped; the test fails when it had ended by itself, does not stop, or
// logged a panic or a data race.
func Start(t testing.TB, c Config) *Daemon {
	t.Helper()
	d := &Daemon{Config: c, t: t, prog: iserd{}, dir: t.TempDir()}
	if d.Program == "" {
		d.Program = os.Getenv("ISERD_TEST_TARGET")
	}
	switch d.Program {
	case "", "iserd":
	case "tgt":
		lab.NeedTools(t, "tgtd", "tgtadm")
		d.prog = tgt{}
	default:
		t.Fatalf("target: the daemon to test is %q, want iserd or tgt", d.Program)
	}
	if d.host, d.port = lab.HostAddr, 3260; c.Net == nil {
		d.host, d.port = "127.0.0.1", lab.FreePort(t)
	}
	if err := d.backing(); err != nil {
		t.Fatalf("target: %v", err)
	}
	log, err := os.Create(filepath.Join(d.dir, "log"))
	if err != nil {
		t.Fatalf("target: %v", err)
	}
	d.log = log
	if err := d.prog.prepare(d); err != nil {
		t.Fatalf("target: %v", err)
	}
	t.Cleanup(d.cleanup)
	d.Restart()
	return d
}

// backing makes the files of the logical units that are to have one.
func (d *Daemon) backing() error {
	for _, l := range d.LUNs {
		if l.Path == "" {
			continue
		}
		f, err := os.OpenFile(l.Path, os.O_CREATE|os.O_RDWR, 0o600)
		if err != nil {
			return err
		}
		if err := f.Truncate(l.Size); err != nil {
			return err
		}
		if err := f.Close(); err != nil {
			return err
		}
	}
	return nil
}

// Portal is the daemon's address and port.
func (d *Daemon) Portal() string { return lab.HostPort(d.host, d.port) }

// LUN is the logical unit number of Config.LUNs[i].
func (d *Daemon) LUN(i int) int { return d.prog.lun(i) }

// URL names Config.LUNs[i] as libiscsi does.
func (d *Daemon) URL(i int) string {
	return fmt.Sprintf("iscsi://%s/%s/%d", d.Portal(), IQN, d.LUN(i))
}

// PID of the daemon's process.
func (d *Daemon) PID() int { return d.cmd.Process.Pid }

// Restart starts the daemon, which must not be running, and returns the time
// until it listened.
func (d *Daemon) Restart() time.Duration {
	d.t.Helper()
	begin := time.Now()
	d.cmd = d.prog.command(d)
	d.cmd.Stdout, d.cmd.Stderr = d.log, d.log
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := d.Net.StartCommand(d.cmd); err != nil {
		d.t.Fatalf("target: %v", err)
	}
	d.gone = make(chan struct{})
	go func(cmd *exec.Cmd, gone chan struct{}) {
		_ = cmd.Wait()
		close(gone)
	}(d.cmd, d.gone)

	for !d.Net.Probe(d.Portal()) {
		select {
		case <-d.gone:
			d.t.Fatalf("target: daemon ended: %v\n%s", d.cmd.ProcessState, d.LogTail())
		case <-time.After(5 * time.Millisecond):
		}
		if time.Since(begin) > 20*time.Second {
			d.t.Fatalf("target: daemon does not listen on %s\n%s", d.Portal(), d.LogTail())
		}
	}
	took := time.Since(begin)
	if err := d.prog.configure(d); err != nil {
		d.t.Fatalf("target: %v", err)
	}
	return took
}

// Kill ends the daemon with SIGKILL.
func (d *Daemon) Kill() {
	d.t.Helper()
	d.mustRun()
	_ = d.cmd.Process.Kill()
	<-d.gone
}

// Stop ends the daemon with SIGTERM and returns the time that it took. It
// fails the test when the daemon takes more than 30 s or exits with an error.
func (d *Daemon) Stop() time.Duration {
	d.t.Helper()
	d.mustRun()
	begin := time.Now()
	_ = d.cmd.Process.Signal(d.prog.stopSignal())
	select {
	case <-d.gone:
	case <-time.After(30 * time.Second):
		_ = d.cmd.Process.Signal(syscall.SIGQUIT) // goroutines into the log
		<-d.gone
		d.t.Errorf("target: daemon did not stop after SIGTERM\n%s", d.LogTail())
	}
	if !d.asked() {
		d.t.Errorf("target: daemon ended with %v after SIGTERM\n%s", d.cmd.ProcessState, d.LogTail())
	}
	return time.Since(begin)
}

// Ended reports whether the daemon's process is gone, a moment after its
// connections were lost.
func (d *Daemon) Ended() bool {
	select {
	case <-d.gone:
		return true
	case <-time.After(100 * time.Millisecond):
		return false
	}
}

// mustRun fails the test when the daemon is gone and nobody asked for it.
func (d *Daemon) mustRun() {
	d.t.Helper()
	select {
	case <-d.gone:
		d.t.Fatalf("target: daemon is gone: %v\n%s", d.cmd.ProcessState, d.LogTail())
	default:
	}
}

// asked reports whether the daemon ended because the test wanted it to.
func (d *Daemon) asked() bool {
	s, ok := d.cmd.ProcessState.Sys().(syscall.WaitStatus)
	return d.cmd.ProcessState.Success() || ok && s.Signal() == syscall.SIGKILL
}

func (d *Daemon) cleanup() {
	if d.cmd == nil || d.cmd.Process == nil {
		return
	}
	select {
	case <-d.gone:
		if !d.asked() {
			d.t.Errorf("target: daemon ended by itself: %v", d.cmd.ProcessState)
		}
	default:
		d.Stop()
	}
	log := d.Log()
	for _, bad := range []string{"panic:", "DATA RACE", "fatal error:"} {
		if strings.Contains(log, bad) {
			d.t.Errorf("target: daemon's log has %q", bad)
		}
	}
	if d.t.Failed() {
		d.t.Logf("end of the daemon's log:\n%s", d.LogTail())
	}
	_ = d.log.Close()
}

// Log is what the daemon has written to its standard streams.
func (d *Daemon) Log() string {
	b, err := os.ReadFile(d.log.Name())
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// LogTail is the end of Log, for a message.
func (d *Daemon) LogTail() string {
	b := []byte(d.Log())
	if i := len(b) - 6000; i > 0 {
		b = b[i:]
		b = b[bytes.IndexByte(b, '\n')+1:]
	}
	return string(b)
}
