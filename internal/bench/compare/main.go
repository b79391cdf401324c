// Command compare measures iserd against Debian's tgt on one machine:
//
//	go run ./internal/bench/compare [--check]
//
// Both serve memory (tgt: rdwr on a file in /dev/shm), each pinned to the
// server's CPU; the generator runs in this process, pinned to another. Rounds
// alternate between the two, and a figure is the median over the rounds of the
// ratio within a round: a noisy neighbour then disturbs both sides alike.
// Server CPU time per I/O (utime + stime of /proc/PID/stat) is the steadiest
// figure.
//
// A second table has iserd over iSER, by iWARP in software, against iserd over
// TCP: the same process, the same port, the same LUN.
//
// Nice levels have no effect across login sessions: with autogroup scheduling
// the kernel shares the CPU between sessions first. What counts is the
// session's own group, which --autogroup sets in /proc/self/autogroup for this
// process and all that it starts; negative values want root.
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		os.Exit(1)
	}
}

// settings are the command line.
type settings struct {
	iserd     string
	rounds    int
	duration  time.Duration
	size      int64
	serverCPU int
	clientCPU int
	autogroup int
	only      string
	poll      time.Duration
	check     bool
	json      bool
	log       io.Writer
}

func newCommand() *cobra.Command {
	s := new(settings)
	cmd := &cobra.Command{
		Use:           "compare",
		Short:         "Measure iserd against Debian's tgt",
		Args:          cobra.NoArgs,
		SilenceUsage:  true,
		SilenceErrors: false,
		RunE: func(cmd *cobra.Command, _ []string) error {
			s.log = cmd.ErrOrStderr()
			return s.run(cmd.Context(), cmd.OutOrStdout())
		},
	}
	fs := cmd.Flags()
	fs.StringVar(&s.iserd, "iserd", "", "iserd binary (default: go build ./cmd/iserd)")
	fs.IntVar(&s.rounds, "rounds", 5, "rounds; figures are medians")
	fs.DurationVarP(&s.duration, "time", "t", 2*time.Second, "measured time per line, peer and round")
	fs.Int64Var(&s.size, "size", 256<<20, "bytes of the LUN to use")
	fs.IntVar(&s.serverCPU, "server-cpu", 0, "CPU of both servers")
	fs.IntVar(&s.clientCPU, "client-cpu", 1, "CPU of the generator")
	fs.IntVar(&s.autogroup, "autogroup", 0, "nice level of this session's scheduling group, -20 to 19 (0: leave it)")
	fs.StringVar(&s.only, "only", "", "only lines whose name matches this regular expression")
	fs.DurationVar(&s.poll, "poll", 0, "on lines of queue depth 1 the generator polls for so long before it sleeps: takes its own wake-up out of both latencies")
	fs.BoolVar(&s.check, "check", false, "exit with 1 when a bar is missed")
	fs.BoolVar(&s.json, "json", false, "print JSON instead of a table")
	return cmd
}

func (s *settings) run(ctx context.Context, out io.Writer) error {
	if s.autogroup != 0 {
		if err := os.WriteFile("/proc/self/autogroup", fmt.Append(nil, s.autogroup), 0); err != nil {
			_, _ = fmt.Fprintf(s.log, "autogroup: %v; going on without\n", err)
		}
	}
	if runtime.NumCPU() < 2 {
		return fmt.Errorf("needs two CPUs, one for the server and one for the generator")
	}
	peers, err := s.start(ctx)
	if err != nil {
		return err
	}
	defer peers.close()
	if err := pinSelf(s.clientCPU); err != nil {
		return err
	}
	runtime.GOMAXPROCS(1)
	r, err := s.measure(ctx, peers)
	if err != nil {
		return err
	}
	if s.json {
		enc := json.NewEncoder(out)
		enc.SetIndent("", "  ")
		err = enc.Encode(r)
	} else {
		err = r.table(out)
	}
	if err == nil && s.check && !r.Pass {
		err = fmt.Errorf("a bar was missed")
	}
	return err
}
