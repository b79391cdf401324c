package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"syscall"
	"time"

	"github.com/hashicorp/go-hclog"
	"github.com/spf13/cobra"

	"github.com/iserd/iserd/config"
)

// serveFlags are the flags of "iserd serve".
type serveFlags struct {
	files  []string
	demo   bool
	listen string
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [--config FILE… | --demo [--listen ADDR:PORT]]",
		Short: "Run the target",
		Long: `Serve reads the configuration, opens the backing stores, listens on the portals
and serves until SIGTERM or SIGINT. It stays in the foreground.

Without --config it reads ` + defaultConfig + ` and ` + defaultConfigDir + `/*.hcl.
With --demo it needs no configuration: it serves 1 GiB of memory on
` + demoListen + ` as ` + demoTarget + `.`,
		Example: `  iserd serve --demo
  iserd serve --config /etc/iserd/iserd.hcl`,
		Args: func(cmd *cobra.Command, args []string) error {
			if err := cobra.NoArgs(cmd, args); err != nil {
				return err
			}
			return f.check()
		},
		RunE: func(cmd *cobra.Command, _ []string) error {
			return f.run(cmd.Context(), cmd.OutOrStdout(), cmd.ErrOrStderr())
		},
	}
	cmd.Flags().StringArrayVarP(&f.files, "config", "c", nil, "configuration `FILE` or directory of *.hcl files; may be given more than once")
	cmd.Flags().BoolVar(&f.demo, "demo", false, "serve 1 GiB of memory without a configuration")
	cmd.Flags().StringVar(&f.listen, "listen", demoListen, "`ADDR:PORT` of the demo; port 0 takes any free one")
	return cmd
}

// check refuses flags that do not go together.
func (f *serveFlags) check() error {
	switch {
	case f.demo && len(f.files) > 0:
		return errors.New("--demo and --config exclude each other")
	case !f.demo && f.listen != demoListen:
		return errors.New("--listen goes with --demo; otherwise portals are in the configuration")
	}
	if _, err := netip.ParseAddrPort(f.listen); err != nil {
		return fmt.Errorf("--listen %q: write a numeric address and a port, such as %s", f.listen, demoListen)
	}
	return nil
}

// load returns the configuration that the flags ask for.
func (f *serveFlags) load(stderr io.Writer) (*config.Config, error) {
	if f.demo {
		at, err := netip.ParseAddrPort(f.listen)
		if err != nil {
			return nil, err
		}
		return demoConfig(at)
	}
	files, err := configFiles(f.files)
	if err != nil {
		return nil, err
	}
	c, diags := config.Load(files...)
	if err := diags.WriteText(stderr, textWidth, false); err != nil {
		return nil, err
	}
	if c == nil {
		return nil, &exitError{exitConfig, errors.New("the configuration is invalid; nothing was started")}
	}
	return c, nil
}

func (f *serveFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	c, err := f.load(stderr)
	if err != nil {
		return err
	}
	log, logFile, err := newLogger(c.Log, stderr)
	if err != nil {
		return err
	}
	defer logFile.Close()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)

	d, err := start(ctx, c, log)
	if err != nil {
		return err
	}
	if f.demo {
		demoHelp(stdout, d.addrs[0])
	}
	return d.wait(signals, c.Limits.ShutdownTimeout, log)
}

// wait serves until SIGTERM or SIGINT, and then shuts down.
func (d *daemon) wait(signals <-chan os.Signal, timeout time.Duration, log hclog.Logger) error {
	for {
		s := <-signals
		if s == syscall.SIGHUP {
			log.Warn("SIGHUP: this version does not reload its configuration; restart it to apply changes")
			continue
		}
		log.Info("stopping", "signal", s.String())
		return d.shutdown(timeout, log)
	}
}
