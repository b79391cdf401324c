package main

import (
	"context"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/api"
)

// Trace implements api.Daemon.
func (a *admin) Trace(ctx context.Context, o *api.TraceOptions, f func(*api.Trace) error) error {
	begun := false
	return a.d.server.Trace(ctx, iserd.TraceOptions{
		TSIH: o.TSIH, Initiator: o.Initiator, Target: o.Target, LUN: o.LUN,
		SlowerThan: o.SlowerThan, Errors: o.Errors, PerSecond: o.PerSecond,
	}, func(c *iserd.TracedCommand, missed uint64) error {
		if !begun {
			begun = true
			return f(nil)
		}
		return f(&api.Trace{NotShown: missed, Command: tracedJSON(c)})
	})
}

func tracedJSON(c *iserd.TracedCommand) *api.TracedCommand {
	if c == nil {
		return nil
	}
	us := func(d time.Duration) float64 { return float64(d) / 1e3 }
	return &api.TracedCommand{
		Time: c.Time, TSIH: c.TSIH, Initiator: c.Initiator, Target: c.Target, LUN: c.LUN, Number: c.Number, Tag: c.InitiatorTaskTag,
		Name: c.Name, CDB: hex.EncodeToString(c.CDB), LBA: c.LBA, Blocks: c.Blocks, Bytes: c.Bytes, Status: c.Status, Sense: c.Sense,
		Total: us(c.Total), Wire: us(c.Wire), Queue: us(c.Queue), Backend: us(c.Backend),
	}
}

func newTrace() *cobra.Command {
	c := &link{}
	o := api.TraceOptions{LUN: -1}
	var session, lun string
	var count int
	cmd := c.flags(&cobra.Command{
		Use: "trace", Short: "Show SCSI commands as they are answered", Args: cobra.NoArgs,
		Long: `Trace prints a line for each command that an initiator has got an answer to, or
that was aborted, until it is interrupted: what it was, how it ended, and how
long it took, in microseconds, of which it waited in the queue (for commands
before it and for a worker), was in the backend, and waited for data on the wire.

Commands never wait for a trace. No more than --per-second are shown; how many
were not is told where they are missing.`,
		Example: `  iserd trace --slower-than 50ms
  iserd trace --lun iqn.2026-11.com.example:a/0 --errors
  iserd trace -o json --initiator iqn.1998-01.com.vmware:esx01`,
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.timeout = 0 // it goes on until it is interrupted
		return c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
			if err := traceTarget(ctx, cl, &o, session, lun); err != nil {
				return err
			}
			ctx, stop := interruptible(ctx)
			defer stop()
			ctx, cancel := context.WithCancel(ctx)
			defer cancel()
			shown := 0
			err := cl.Trace(ctx, &o, func(t *api.Trace) {
				c.traceLine(w, t)
				if t != nil && t.Command != nil {
					shown++
				}
				if count > 0 && shown >= count {
					cancel()
				}
			})
			if ctx.Err() != nil {
				return nil
			}
			return err
		})(cmd, args)
	}
	f := cmd.Flags()
	f.StringVar(&lun, "lun", "", "only commands to this LUN, `TARGET/NUMBER`")
	f.StringVar(&o.Target, "target", "", "only commands to the target `NAME`")
	f.StringVar(&session, "session", "", "only the session with this `TSIH`")
	f.StringVar(&o.Initiator, "initiator", "", "only the initiator `NAME`")
	f.DurationVar(&o.SlowerThan, "slower-than", 0, "only commands that took at least so long")
	f.BoolVar(&o.Errors, "errors", false, "only what did not end with GOOD")
	f.IntVar(&o.PerSecond, "per-second", 200, "show at most so many `COMMANDS` in a second")
	f.IntVarP(&count, "count", "n", 0, "end after so many `COMMANDS`")
	f.DurationVar(&o.Duration, "duration", 0, "end after this time")
	return cmd
}

// traceTarget fills in what the flags name, if it exists.
func traceTarget(ctx context.Context, cl *api.Client, o *api.TraceOptions, session, lun string) error {
	if session != "" {
		n, err := parseNumber("TSIH", session)
		if err != nil {
			return err
		}
		if _, err := cl.Session(ctx, n); err != nil {
			return err
		}
		o.TSIH = n
	}
	if lun != "" {
		t, n, err := parseLUN(lun)
		if err != nil {
			return err
		}
		if o.Target != "" && o.Target != t {
			return usageError(errors.New("--lun and --target name different targets"))
		}
		if _, err := cl.LUN(ctx, t, n); err != nil {
			return err
		}
		o.Target, o.LUN = t, int(n)
	} else if o.Target != "" {
		if _, err := cl.Target(ctx, o.Target); err != nil {
			return err
		}
	}
	return nil
}

// traceFormat are the columns of a trace: it is printed as it comes, so that
// their widths are fixed.
const traceFormat = "%-15s  %-16s  %-10s  %-18s  %12s  %7s  %8s  %8s  %8s  %8s  %8s  %s\n"

// traceLine prints one line; nil stands for the beginning.
func (c *link) traceLine(w io.Writer, t *api.Trace) {
	if c.output == "json" {
		if t != nil {
			_ = json.NewEncoder(w).Encode(t) // the command's output reports its own errors
		}
		return
	}
	if t == nil {
		fmt.Fprintf(w, traceFormat, "TIME", "INITIATOR", "LUN", "COMMAND", "LBA", "BLOCKS", "BYTES", "µs", "QUEUE", "BACKEND", "WIRE", "STATUS")
		return
	}
	if t.NotShown > 0 {
		fmt.Fprintf(w, "… %d not shown\n", t.NotShown)
	}
	x := t.Command
	if x == nil {
		return
	}
	name := x.Name
	if name == "" && len(x.CDB) >= 2 {
		name = "opcode " + x.CDB[:2] + "h"
	}
	lba, blocks := "-", "-"
	if x.Blocks > 0 {
		lba, blocks = strconv.FormatUint(x.LBA, 10), strconv.FormatUint(x.Blocks, 10)
	}
	us := func(v float64) string {
		if x.Total == 0 {
			return "-" // it was refused before it could be measured
		}
		return strconv.FormatFloat(v, 'f', 1, 64)
	}
	fmt.Fprintf(w, traceFormat, x.Time.Local().Format("15:04:05.000000"), tail(x.Initiator), lunOfTrace(x), name, lba, blocks, strconv.Itoa(x.Bytes),
		us(x.Total), us(x.Queue), us(x.Backend), us(x.Wire), strings.TrimSpace(x.Status+" "+x.Sense))
}

// tail is the part of an iSCSI name that people give: what follows the last
// colon.
func tail(name string) string { return visible(name[strings.LastIndexByte(name, ':')+1:]) }

func lunOfTrace(x *api.TracedCommand) string {
	if x.Number < 0 {
		return fmt.Sprintf("%s/(%d)", tail(x.Target), x.LUN)
	}
	return tail(x.Target) + "/" + strconv.Itoa(x.Number)
}
