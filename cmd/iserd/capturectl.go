package main

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/internal/pcapng"
)

// Capture implements api.Daemon.
func (a *admin) Capture(ctx context.Context, w io.Writer, o *api.CaptureOptions) error {
	c, _, _ := a.inForce()
	if !c.Console.Capture {
		return api.Problemf(api.ErrForbidden, "capturing is switched off by console { capture = false }")
	}
	a.log.Info("capture begins", "session", o.TSIH, "initiator", o.Initiator, "target", o.Target, "secrets", o.Secrets)
	defer a.log.Info("capture ends")
	return a.d.server.Capture(ctx, w, iserd.CaptureOptions{
		TSIH: o.TSIH, Initiator: o.Initiator, Target: o.Target, Snaplen: o.Snaplen, Secrets: o.Secrets, Node: c.Node.Name,
	})
}

// captured is what "iserd capture" says in the end.
type captured struct {
	File    string `json:"file"`
	Packets uint64 `json:"packets"`
	Bytes   uint64 `json:"bytes"`
	Dropped uint64 `json:"dropped"` // PDUs that were not captured: the reader was too slow
}

func newCapture() *cobra.Command {
	c := &link{}
	var o api.CaptureOptions
	var file, session string
	cmd := c.flags(&cobra.Command{
		Use: "capture -w FILE", Short: "Record the PDUs of connections for Wireshark", Args: cobra.NoArgs,
		Long: `Capture writes what initiators and the daemon send each other to a pcapng file,
until it is interrupted or the duration is over: over TCP, with digests where
the login is in the file, and over iSER, with the data that moves by RDMA shown
as Data-In, R2T and Data-Out PDUs.

IP and TCP headers are made up around each PDU; addresses and ports are true.
For portals on other ports than 3260 tell Wireshark to decode them as iSCSI:
tshark -d tcp.port==3261,iscsi.

The data of the disks is in the file unless --snaplen cuts it off; 128 keeps all
headers. CHAP responses are blanked out. I/O never waits for a capture: what the
reader is too slow for is left out, and counted.`,
		Example: `  iserd capture -w login.pcapng --initiator iqn.1998-01.com.vmware:esx01
  iserd capture -w s.pcapng --session 0x0001 --duration 10s --snaplen 128
  iserd capture -w - | wireshark -k -i -`,
	})
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		c.timeout = 0 // it goes on until it is interrupted
		return c.talk(func(ctx context.Context, cl *api.Client, w io.Writer, _ []string) error {
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
			if o.Target != "" {
				if _, err := cl.Target(ctx, o.Target); err != nil {
					return err
				}
			}
			return c.capture(ctx, cl, &o, file, w, cmd.ErrOrStderr())
		})(cmd, args)
	}
	f := cmd.Flags()
	f.StringVarP(&file, "write", "w", "", "`FILE` to write, - for standard output")
	f.StringVar(&session, "session", "", "only the session with this `TSIH`")
	f.StringVar(&o.Initiator, "initiator", "", "only connections of the initiator `NAME`")
	f.StringVar(&o.Target, "target", "", "only connections to the target `NAME`")
	f.DurationVar(&o.Duration, "duration", 0, "end after this time")
	f.IntVar(&o.Snaplen, "snaplen", 0, "keep so many `BYTES` of each PDU; 0 keeps all")
	f.BoolVar(&o.Secrets, "secrets", false, "keep CHAP responses; passwords can be tried against them")
	_ = cmd.MarkFlagRequired("write") // fails for unknown flags only
	return cmd
}

// capture writes a file until ctx ends or the user interrupts it.
func (c *link) capture(ctx context.Context, cl *api.Client, o *api.CaptureOptions, file string, stdout, stderr io.Writer) error {
	ctx, stop := interruptible(ctx)
	defer stop()
	in, err := cl.Capture(ctx, o)
	if err != nil {
		return err
	}
	defer in.Close()
	out, say := stdout, stderr
	sum := captured{File: file}
	if file != "-" {
		f, err := os.OpenFile(file, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
		if err != nil {
			return usageError(err)
		}
		defer f.Close()
		out, say = f, stdout
		if c.output != "json" && o.Duration == 0 {
			fmt.Fprintln(stderr, "Capturing. Ctrl-C ends it.")
		}
	} else if isTerminal(stdout) {
		return usageError(errors.New("a capture is not for a terminal: name a file, or pipe it into wireshark -k -i -"))
	}
	err = copyBlocks(ctx, out, in, &sum)
	return errors.Join(err, c.show(say, &sum, func(w io.Writer) {
		fmt.Fprintf(w, "%d packets, %s", sum.Packets, bytesText(int64(sum.Bytes)))
		if sum.Dropped > 0 {
			fmt.Fprintf(w, "; %d PDUs are missing: the reader was too slow", sum.Dropped)
		}
		fmt.Fprintln(w)
	}))
}

// copyBlocks copies whole blocks, so that the file is whole wherever it ends.
// What the stream still has when ctx ends is left out.
func copyBlocks(ctx context.Context, w io.Writer, r io.Reader, sum *captured) error {
	in := bufio.NewReaderSize(r, 1<<16)
	dropped := map[uint32]uint64{}
	var buf []byte
	for {
		kind, block, err := pcapng.ReadBlock(in, buf)
		if err != nil {
			if errors.Is(err, io.EOF) || ctx.Err() != nil {
				return nil
			}
			return fmt.Errorf("the daemon has ended the capture: %w", err)
		}
		buf = block
		if _, err := w.Write(block); err != nil {
			if errors.Is(err, syscall.EPIPE) {
				return nil // the reader of a pipe has seen enough
			}
			return err
		}
		sum.Bytes += uint64(len(block))
		if kind == pcapng.TypePacket {
			sum.Packets++
		}
		if s, ok := pcapng.ParseStatistics(block); ok {
			dropped[s.Interface] = s.Dropped
			sum.Dropped = 0
			for _, n := range dropped {
				sum.Dropped += n
			}
		}
	}
}
