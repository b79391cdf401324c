package main

import (
	"context"
	"fmt"
	"io"
	"strings"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/internal/bench"
)

// Paths of the configuration when none is named.
const (
	defaultConfig    = "/etc/iserd/iserd.hcl"
	defaultConfigDir = "/etc/iserd/conf.d"
)

// run executes one command line and returns the exit code.
func run(args []string, stdout, stderr io.Writer) int {
	started := false
	return execute(context.Background(), newRoot(&started), &started, args, stdout, stderr)
}

// execute runs one command line of a tree.
func execute(ctx context.Context, root *cobra.Command, started *bool, args []string, stdout, stderr io.Writer) int {
	root.SetArgs(args)
	root.SetOut(stdout)
	root.SetErr(stderr)
	cmd, err := root.ExecuteContextC(ctx)
	if err != nil && !*started {
		// Nothing ran: the mistake is in the command line.
		err = usageError(fmt.Errorf("%w\nRun '%s --help' for usage", err, cmd.CommandPath()))
	}
	if err != nil && err.Error() != "" {
		// Errors of the library have the prefix already.
		fmt.Fprintf(stderr, "iserd: %s\n", strings.TrimPrefix(err.Error(), "iserd: "))
	}
	return exitCode(err)
}

// newRoot returns the command tree. Started is set once a command's own code
// runs.
func newRoot(started *bool) *cobra.Command {
	root := &cobra.Command{
		Use:   "iserd",
		Short: "Serve block devices over iSCSI",
		Long: `iserd serves files, block devices and memory as iSCSI disks.

Try it:

  iserd serve --demo

` + exitHelp(),
		SilenceErrors:     true,
		SilenceUsage:      true,
		DisableAutoGenTag: true,
		PersistentPreRun:  func(*cobra.Command, []string) { *started = true },
	}
	root.CompletionOptions.HiddenDefaultCmd = false
	root.AddCommand(
		newServe(),
		newStatus(),
		newLs(),
		newTop(),
		newConsole(),
		newTarget(),
		newLUN(),
		newSession(),
		newPR(),
		newALUA(),
		newActors(),
		newLogins(),
		newEvents(),
		newCapture(),
		newTrace(),
		newConfig(),
		newPlan(),
		newLog(),
		newDebug(),
		newCheck(),
		newVersion(),
		newRDMA(),
		bench.NewCommand(),
		newMan(),
	)
	completeNames(root)
	return root
}
