package main

import (
	"errors"
	"os"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/console"
)

func newTop() *cobra.Command {
	c := &link{}
	var every time.Duration
	cmd := c.flags(&cobra.Command{
		Use: "top", Short: "Watch LUNs, actors, faults and refused logins on the whole screen", Args: cobra.NoArgs,
		Long: `Top shows what goes through each LUN for each initiator, the tree of actors,
supervision events and refused logins, and looks again every second. Tab goes
from one to the next; the last line tells the other keys.`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return c.watch(cmd, console.Options{Every: every})
		},
	})
	cmd.Flags().DurationVar(&every, "every", time.Second, "time from one look to the next")
	return cmd
}

// watch runs the screens.
func (c *link) watch(cmd *cobra.Command, o console.Options) error {
	if !isTerminal(os.Stdout) {
		return usageError(errors.New("this needs a terminal; other commands print the same with -o json"))
	}
	cl, err := c.dial()
	if err != nil {
		return err
	}
	defer cl.Close()
	if _, err := cl.Status(cmd.Context()); err != nil {
		return exitOf(err)
	}
	return console.Run(cmd.Context(), cl, o)
}

// isTerminal reports whether w is a terminal.
func isTerminal(w any) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	_, err := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return err == nil
}
