package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"text/tabwriter"
	"time"
	"unicode"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

// consoleEnv names the console for commands and for a daemon whose configuration
// names none.
const consoleEnv = "ISERD_CONSOLE"

// defaultConsole is where the console is when nothing else is said.
func defaultConsole() string {
	if at := os.Getenv(consoleEnv); at != "" {
		return at
	}
	if dir := os.Getenv("XDG_RUNTIME_DIR"); dir != "" && os.Geteuid() != 0 {
		return "unix:" + filepath.Join(dir, "iserd", "console.sock")
	}
	return config.DefaultConsole
}

// link is what all commands that talk to a daemon share.
type link struct {
	at            string
	cert, key, ca string
	output        string
	timeout       time.Duration
}

// flags adds the common flags to a command.
func (c *link) flags(cmd *cobra.Command) *cobra.Command {
	f := cmd.Flags()
	f.StringVar(&c.at, "console", "", "`ADDRESS` of the daemon: unix:/PATH, or ADDR:PORT with a certificate (default $"+consoleEnv+", or "+config.DefaultConsole+")")
	f.StringVar(&c.cert, "cert", "", "`FILE` of the certificate for ADDR:PORT")
	f.StringVar(&c.key, "key", "", "`FILE` of its private key")
	f.StringVar(&c.ca, "ca", "", "`FILE` of the authority that signed the daemon's certificate")
	f.StringVarP(&c.output, "output", "o", "text", "`FORMAT`: text or json")
	f.DurationVar(&c.timeout, "timeout", 30*time.Second, "how long to wait for the answer")
	return cmd
}

// dial returns a client of the daemon.
func (c *link) dial() (*api.Client, error) {
	at := c.at
	if at == "" {
		at = defaultConsole()
	}
	if c.cert == "" && c.key == "" && c.ca == "" {
		cl, err := api.NewClient(at, nil)
		if err != nil {
			return nil, usageError(err)
		}
		return cl, nil
	}
	cert, err := tls.LoadX509KeyPair(c.cert, c.key)
	if err != nil {
		return nil, usageError(err)
	}
	ca, err := authorities(c.ca)
	if err != nil {
		return nil, usageError(err)
	}
	return api.NewClient(at, &tls.Config{Certificates: []tls.Certificate{cert}, RootCAs: ca, MinVersion: tls.VersionTLS13})
}

// talk makes a command's RunE of a function that talks to the daemon.
func (c *link) talk(f func(ctx context.Context, cl *api.Client, w io.Writer, args []string) error) func(*cobra.Command, []string) error {
	return func(cmd *cobra.Command, args []string) error {
		if err := checkOutput(c.output); err != nil {
			return usageError(err)
		}
		cl, err := c.dial()
		if err != nil {
			return err
		}
		defer cl.Close()
		ctx := cmd.Context()
		if c.timeout > 0 {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, c.timeout)
			defer cancel()
		}
		return exitOf(f(ctx, cl, cmd.OutOrStdout(), args))
	}
}

// exitOf gives an error of the client its exit code.
func exitOf(err error) error {
	code := exitRuntime
	switch {
	case err == nil:
		return nil
	case errors.Is(err, api.ErrNotUp):
		return &exitError{exitNotUp, fmt.Errorf("%w\n%s", err, wayOut(err))}
	case errors.Is(err, context.Canceled):
		err = errors.New("interrupted")
	case errors.Is(err, context.DeadlineExceeded):
		err = errors.New("the daemon does not answer in time; --timeout gives it more, iserd debug goroutines shows what it does")
	case errors.Is(err, api.ErrNotFound):
		code = exitNotFound
	case errors.Is(err, api.ErrConflict):
		code = exitBusy
	case errors.Is(err, api.ErrInvalid):
		code = exitConfig
	default:
		if _, ok := errors.AsType[*exitError](err); ok {
			return err
		}
	}
	return &exitError{code, err}
}

// wayOut says what to do when no daemon answers.
func wayOut(err error) string {
	switch {
	case errors.Is(err, fs.ErrPermission):
		return "Only root and the group of the socket may use it: console { group } of the configuration names the group"
	case errors.Is(err, fs.ErrNotExist), errors.Is(err, syscall.ECONNREFUSED):
		return "Is it running (systemctl status iserd, or iserd serve)? If its console is elsewhere, name it by --console or " + consoleEnv
	default:
		return "--console or " + consoleEnv + " names where its console is"
	}
}

// show writes v as JSON, or has text write it for people.
func (c *link) show(w io.Writer, v any, text func(io.Writer)) error {
	if c.output == "json" {
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	}
	text(w)
	return nil
}

// acted is what commands that change something answer in JSON.
type acted struct {
	Done   string `json:"done"`
	Object string `json:"object"`
}

// done says that something was done to an object.
func (c *link) done(w io.Writer, what, object string) error {
	return c.show(w, acted{what, object}, func(w io.Writer) { fmt.Fprintf(w, "%s: %s\n", visible(object), what) })
}

// acted is done, unless doing it failed.
func (c *link) acted(err error, w io.Writer, what, object string) error {
	if err != nil {
		return err
	}
	return c.done(w, what, object)
}

// interruptible is ctx until the user ends the command.
func interruptible(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM)
}

// table writes rows in columns; the first is the heading.
func table(w io.Writer, rows [][]string) {
	t := tabwriter.NewWriter(w, 0, 0, 2, ' ', 0)
	for _, r := range rows {
		for i, cell := range r {
			if i > 0 {
				fmt.Fprint(t, "\t")
			}
			fmt.Fprint(t, visible(cell))
		}
		fmt.Fprintln(t)
	}
	_ = t.Flush() // the command's output reports its own errors
}

// visible replaces control characters: initiators choose their names, and those
// go to a terminal here.
func visible(s string) string {
	return strings.Map(func(c rune) rune {
		if unicode.IsControl(c) {
			return '?'
		}
		return c
	}, s)
}

// ago is how long ago something was, for people.
func ago(t time.Time, now time.Time) string { return span(now.Sub(t)) }

// span is a duration of at most two units.
func span(d time.Duration) string {
	switch {
	case d < time.Minute:
		return fmt.Sprintf("%ds", int(d/time.Second))
	case d < time.Hour:
		return fmt.Sprintf("%dm%02ds", int(d/time.Minute), int(d/time.Second)%60)
	case d < 24*time.Hour:
		return fmt.Sprintf("%dh%02dm", int(d/time.Hour), int(d/time.Minute)%60)
	default:
		return fmt.Sprintf("%dd%02dh", int(d/(24*time.Hour)), int(d/time.Hour)%24)
	}
}

// bytesText is a number of bytes with one decimal.
func bytesText(n int64) string {
	v, unit := float64(n), 0
	for v >= 1024 && unit < 6 {
		v /= 1024
		unit++
	}
	if unit == 0 {
		return fmt.Sprintf("%d B", n)
	}
	return fmt.Sprintf("%.1f %ciB", v, " KMGTPE"[unit])
}
