// Package tgt runs Debian's tgtd, the peer that tests and comparisons measure
// against. It is not for production use of tgt.
package tgt

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os/exec"
	"strconv"
	"time"
)

// Target is the name of the one target that Start makes.
const Target = "iqn.2026-11.com.example:tgt"

// ErrMissing means that tgtd or tgtadm is not installed.
var ErrMissing = errors.New("tgt: needs tgtd and tgtadm (Debian package tgt)")

// Config says how to run tgtd.
type Config struct {
	Backing string   // file behind LUN 1, which exists
	Prefix  []string // command to run tgtd under, such as taskset -c 0
}

// Server is a running tgtd with one target that every initiator may use.
type Server struct {
	Addr string // host:port on loopback
	// Listening is when the portal took its first connection.
	Listening time.Time

	control string
	cmd     *exec.Cmd
}

// Start runs tgtd on a free loopback port and returns when it serves LUN 1.
func Start(ctx context.Context, c Config) (*Server, error) {
	for _, tool := range []string{"tgtd", "tgtadm"} {
		if _, err := exec.LookPath(tool); err != nil {
			return nil, fmt.Errorf("%w: %s", ErrMissing, tool)
		}
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &Server{
		Addr: net.JoinHostPort("127.0.0.1", strconv.Itoa(port)),
		// The control socket's name is global to the machine.
		control: strconv.Itoa(port % 32768),
	}
	args := append(append([]string(nil), c.Prefix...), "tgtd", "-f", "--iscsi", "portal="+s.Addr, "-C", s.control)
	s.cmd = exec.Command(args[0], args[1:]...)
	if err := s.cmd.Start(); err != nil {
		return nil, fmt.Errorf("tgt: %w", err)
	}
	if err := s.setUp(ctx, c.Backing); err != nil {
		_ = s.Close()
		return nil, err
	}
	return s, nil
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, fmt.Errorf("tgt: %w", err)
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

func (s *Server) setUp(ctx context.Context, backing string) error {
	if err := WaitListening(ctx, s.Addr, 10*time.Second); err != nil {
		return fmt.Errorf("tgt: tgtd does not listen: %w", err)
	}
	s.Listening = time.Now()
	for _, args := range [][]string{
		{"--op", "new", "--mode", "target", "--tid", "1", "-T", Target},
		{"--op", "new", "--mode", "logicalunit", "--tid", "1", "--lun", "1", "-b", backing},
		{"--op", "bind", "--mode", "target", "--tid", "1", "-I", "ALL"},
	} {
		if err := s.Admin(args...); err != nil {
			return err
		}
	}
	return nil
}

// WaitListening connects to addr until that works.
func WaitListening(ctx context.Context, addr string, limit time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, limit)
	defer cancel()
	for {
		var d net.Dialer
		c, err := d.DialContext(ctx, "tcp", addr)
		if err == nil {
			return c.Close()
		}
		select {
		case <-ctx.Done():
			return err
		case <-time.After(time.Millisecond):
		}
	}
}

// Admin runs tgtadm with args.
func (s *Server) Admin(args ...string) error {
	args = append([]string{"-C", s.control, "--lld", "iscsi"}, args...)
	if out, err := exec.Command("tgtadm", args...).CombinedOutput(); err != nil {
		return fmt.Errorf("tgt: tgtadm %v: %w: %s", args, err, bytes.TrimSpace(out))
	}
	return nil
}

// URL names LUN n of the target.
func (s *Server) URL(n int) string {
	return fmt.Sprintf("iscsi://%s/%s/%d", s.Addr, Target, n)
}

// PID returns tgtd's process.
func (s *Server) PID() int { return s.cmd.Process.Pid }

// Close ends tgtd.
func (s *Server) Close() error {
	if err := s.cmd.Process.Kill(); err != nil {
		return err
	}
	_ = s.cmd.Wait() // "killed" is what it says
	return nil
}
