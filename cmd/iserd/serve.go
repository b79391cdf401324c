package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"os/signal"
	"strings"
	"syscall"
	"time"

	systemd "github.com/coreos/go-systemd/v22/daemon"
	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/config"
)

// serveFlags are the flags of "iserd serve".
type serveFlags struct {
	files  []string
	demo   bool
	listen string
	page   string // address of the demo's web page, empty for none
}

func newServe() *cobra.Command {
	var f serveFlags
	cmd := &cobra.Command{
		Use:   "serve [--config FILE… | --demo [--listen ADDR:PORT] [--http ADDR:PORT]]",
		Short: "Run the target",
		Long: `Serve reads the configuration, opens the backing stores, listens on the portals
and serves until SIGTERM or SIGINT. It stays in the foreground. SIGHUP has it
read the configuration again and apply what has changed, all or nothing.

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
	cmd.Flags().StringVar(&f.page, "http", "", "`ADDR:PORT` of the demo's web page, on a loopback address; none without it")
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
	if at, err := netip.ParseAddrPort(f.page); f.page != "" && (!f.demo || err != nil || !at.Addr().IsLoopback()) {
		return fmt.Errorf("--http %q: with --demo write a loopback address and a port, such as 127.0.0.1:9260; otherwise there is the http block of the configuration", f.page)
	}
	if _, err := netip.ParseAddrPort(f.listen); err != nil {
		return fmt.Errorf("--listen %q: write a numeric address and a port, such as %s", f.listen, demoListen)
	}
	return nil
}

// loader returns what loads the configuration that the flags ask for, again and
// again.
func (f *serveFlags) loader() (func([]config.Option) (*config.Config, config.Diagnostics), error) {
	if f.demo {
		at, err := netip.ParseAddrPort(f.listen)
		if err != nil {
			return nil, err
		}
		return func(opts []config.Option) (*config.Config, config.Diagnostics) {
			return demoConfig(at, f.page, opts...)
		}, nil
	}
	files, err := configFiles(f.files)
	if err != nil {
		return nil, err
	}
	return func(opts []config.Option) (*config.Config, config.Diagnostics) {
		return config.LoadWith(opts, files...)
	}, nil
}

func (f *serveFlags) run(ctx context.Context, stdout, stderr io.Writer) error {
	load, err := f.loader()
	if err != nil {
		return err
	}
	host := newSnapshot(config.OS())
	c, diags := load([]config.Option{config.WithHost(host)})
	host.seal()
	if err := diags.WriteText(stderr, textWidth, false); err != nil {
		return err
	}
	if c == nil {
		return &exitError{exitConfig, errors.New("the configuration is invalid; nothing was started")}
	}
	log, out, err := newLogger(c.Log, stderr)
	if err != nil {
		return err
	}
	defer out.Close()
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, syscall.SIGTERM, syscall.SIGINT, syscall.SIGHUP)
	defer signal.Stop(signals)

	d, err := start(ctx, c, log)
	if err != nil {
		return err
	}
	ctl := &control{d: d, log: log, levels: log.levels, out: out, load: load, host: host, running: c}
	a := newAdmin(ctl)
	ctl.listeners, err = openListeners(a, withConsole(c), log)
	if err != nil {
		return errors.Join(err, d.shutdown(time.Second, log))
	}
	if f.demo {
		demoHelp(stdout, d.addrs[0], f.page)
	}
	err = ctl.wait(ctx, signals, a)
	ctl.listeners.close()
	return err
}

// withConsole is c with the console that is meant when the configuration names
// none.
func withConsole(c *config.Config) *config.Config {
	if c.Console.Has("listen") {
		return c
	}
	out := *c
	out.Console.Listen = defaultConsole()
	return &out
}

// wait serves until SIGTERM or SIGINT, and then shuts down.
func (c *control) wait(ctx context.Context, signals <-chan os.Signal, a *admin) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	if every, err := systemd.SdWatchdogEnabled(false); err == nil {
		go watch(ctx, a, every, func() { notify(systemd.SdNotifyWatchdog) })
	}
	notify(systemd.SdNotifyReady)
	for {
		s := <-signals
		if s == syscall.SIGHUP {
			c.hangUp(ctx, a)
			continue
		}
		notify(systemd.SdNotifyStopping)
		c.log.Info("stopping", "signal", s.String())
		return c.d.shutdown(c.inForceNow().Limits.ShutdownTimeout, c.log)
	}
}

// hangUp reloads the configuration.
func (c *control) hangUp(ctx context.Context, a *admin) {
	var now unix.Timespec
	_ = unix.ClockGettime(unix.CLOCK_MONOTONIC, &now) // never fails for this clock
	notify(fmt.Sprintf("%s\nMONOTONIC_USEC=%d", systemd.SdNotifyReloading, now.Nano()/1000))
	status := "STATUS=The configuration is in force."
	if _, err := a.Reload(ctx); err != nil {
		first, _, _ := strings.Cut(err.Error(), "\n")
		status = "STATUS=The old configuration is in force, the new one was refused: " + first
	}
	notify(systemd.SdNotifyReady + "\n" + status)
}

func (c *control) inForceNow() *config.Config {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.running
}

// notify tells the service manager, if there is one.
func notify(state string) { _, _ = systemd.SdNotify(false, state) }
