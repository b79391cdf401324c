package bench

import (
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/iserd/iserd/initiator"
)

// flags are the command line of "bench" that is not Options yet.
type flags struct {
	o          Options
	mode       string
	luns       string
	blockSize  sizeValue
	size       sizeValue
	offset     sizeValue
	output     string
	overwrite  bool
	noProgress bool
	noReadBack bool

	digests              string
	noImmediate, needR2T bool
	chapUser, chapFile   string
	targetUser           string
	targetFile           string
}

const longHelp = `Put load on an iSCSI logical unit and measure it.

Each session keeps --queue-depth commands in flight on its own connection. The
result shows IOPS, throughput, latency percentiles and how evenly sessions were
served; with --pid it shows the CPU time that the target spent per I/O.

With iser:// in place of iscsi:// the sessions are over iSER: by the adapter that
leads to the target, or by iWARP in software.

Modes are named as in fio: randread, randwrite, randrw, read, write, rw. All
that write DESTROY THE DATA on the logical unit and want --overwrite.

With --verify each block written says where, when and by which run it was
written and carries a CRC32C; every read of it is checked, and at the end all
that was written is read once more. Sessions then work in parts of their own.

A secret in the URL is visible to every user of the machine: use --chap-user
with --chap-secret-file instead.`

const examples = `  # 4 KiB random reads, 32 in flight, 10 seconds
  iserd bench iscsi://127.0.0.1/iqn.2026-11.com.example:disk/0

  # large sequential writes, and what they cost the local target
  iserd bench -m write -b 256K -q 8 --overwrite --pid $(pidof iserd) iscsi://127.0.0.1/iqn.2026-11.com.example:disk/0

  # the same target over iSER
  iserd bench iser://127.0.0.1/iqn.2026-11.com.example:disk/0

  # latency of single commands
  iserd bench -q 1 -t 30s iscsi://gw1/iqn.2026-11.com.example:disk/0

  # 64 sessions on four LUNs, 70 % reads, checked, as JSON
  iserd bench -m randrw -s 64 -q 4 -l 0-3 --verify --overwrite -o json iscsi://gw1/iqn.2026-11.com.example:disk`

// NewCommand returns the "bench" subcommand. It writes its result to the
// command's output and its progress to the command's error output.
func NewCommand() *cobra.Command {
	f := &flags{o: DefaultOptions()}
	f.blockSize = sizeValue(f.o.BlockSize)
	cmd := &cobra.Command{
		Use:     "bench URL",
		Short:   "Load generator: measure an iSCSI target",
		Long:    longHelp,
		Example: examples,
		Args:    cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			o, err := f.options(args[0], cmd.ErrOrStderr())
			if err != nil {
				return err
			}
			cmd.SilenceUsage = true // the command line was right; what comes now is not about it
			r, err := Run(cmd.Context(), o)
			if err != nil {
				return err
			}
			if f.output == "json" {
				return r.WriteJSON(cmd.OutOrStdout())
			}
			return r.WriteTable(cmd.OutOrStdout())
		},
	}
	f.register(cmd)
	return cmd
}

func (f *flags) register(cmd *cobra.Command) {
	fs, o := cmd.Flags(), &f.o
	fs.SortFlags = false
	fs.StringVarP(&f.mode, "mode", "m", "randread", "randread, randwrite, randrw, read, write or rw")
	fs.VarP(&f.blockSize, "block-size", "b", "bytes per I/O")
	fs.IntVarP(&o.QueueDepth, "queue-depth", "q", o.QueueDepth, "commands in flight per session")
	fs.IntVarP(&o.Sessions, "sessions", "s", o.Sessions, "sessions, one connection each")
	fs.StringVarP(&f.luns, "luns", "l", "", "LUNs to use in turn, such as 0,2-5 (default: the URL's)")
	fs.IntVar(&o.ReadPercent, "read-percent", o.ReadPercent, "share of reads of randrw and rw")
	fs.DurationVarP(&o.Duration, "time", "t", o.Duration, "measured time")
	fs.DurationVar(&o.Ramp, "ramp", o.Ramp, "time before that, not measured")
	fs.Uint64VarP(&o.Count, "count", "n", 0, "end after so many I/Os instead")
	fs.Var(&f.offset, "offset", "first byte of the LUN to use")
	fs.Var(&f.size, "size", "bytes of the LUN to use (default: all)")
	fs.BoolVar(&f.overwrite, "overwrite", false, "yes, destroy the data on the LUN")
	fs.BoolVar(&o.Verify, "verify", false, "write blocks that can be checked, and check them")
	fs.BoolVar(&f.noReadBack, "no-read-back", false, "no last pass of --verify")
	fs.Uint64Var(&o.Seed, "seed", o.Seed, "of addresses and of --verify's data")
	fs.IntVar(&o.PID, "pid", 0, "process of a target on this machine: show its CPU time per I/O")
	fs.DurationVar(&o.Poll, "poll", 0, "ask the socket for so long before sleeping, to take our own wake-up out of the latency")
	fs.StringVarP(&f.output, "output", "o", "table", "table or json")
	fs.BoolVar(&f.noProgress, "no-progress", false, "no line each second")
	fs.StringVar(&f.digests, "digest", "", "none, header, data or all: CRC32C digests to insist on")
	fs.BoolVar(&f.noImmediate, "no-immediate-data", false, "offer ImmediateData=No")
	fs.BoolVar(&f.needR2T, "initial-r2t", false, "offer InitialR2T=Yes")
	fs.IntVar(&o.Login.MaxRecvDataSegmentLength, "max-recv", 0, "MaxRecvDataSegmentLength to declare (default 256 KiB)")
	fs.StringVar(&o.Login.InitiatorName, "initiator-name", "", "InitiatorName to log in with")
	fs.StringVar(&f.chapUser, "chap-user", "", "CHAP name")
	fs.StringVar(&f.chapFile, "chap-secret-file", "", "file that holds the CHAP secret")
	fs.StringVar(&f.targetUser, "target-chap-user", "", "CHAP name the target has to answer with (mutual CHAP)")
	fs.StringVar(&f.targetFile, "target-chap-secret-file", "", "file that holds the target's secret (mutual CHAP)")
}

// options makes Options of the command line.
func (f *flags) options(rawURL string, stderr io.Writer) (Options, error) {
	o := f.o
	var err error
	if o.URL, err = initiator.ParseURL(rawURL); err != nil {
		return o, err
	}
	if o.Mode, err = ParseMode(f.mode); err != nil {
		return o, err
	}
	if o.LUNs, err = parseLUNs(f.luns); err != nil {
		return o, err
	}
	if f.output != "table" && f.output != "json" {
		return o, fmt.Errorf("bench: output %q, want table or json", f.output)
	}
	if o.Mode.Writes() && !f.overwrite {
		return o, fmt.Errorf("bench: mode %v destroys the data on the LUN; say --overwrite if that is what you want", o.Mode)
	}
	o.BlockSize, o.Offset, o.Size = int(f.blockSize), int64(f.offset), int64(f.size)
	o.ReadBack = !f.noReadBack
	if !f.noProgress && isTerminal(stderr) {
		o.Progress = stderr
	}
	if err := f.login(&o.Login); err != nil {
		return o, err
	}
	return o, o.validate()
}

func (f *flags) login(l *initiator.Options) error {
	switch f.digests {
	case "":
	case "none":
		l.HeaderDigest, l.DataDigest = "None", "None"
	case "header":
		l.HeaderDigest = "CRC32C"
	case "data":
		l.DataDigest = "CRC32C"
	case "all":
		l.HeaderDigest, l.DataDigest = "CRC32C", "CRC32C"
	default:
		return fmt.Errorf("bench: digest %q, want none, header, data or all", f.digests)
	}
	if f.noImmediate {
		l.ImmediateData = initiator.No
	}
	if f.needR2T {
		l.InitialR2T = initiator.Yes
	}
	if (f.chapUser == "") != (f.chapFile == "") {
		return errors.New("bench: --chap-user and --chap-secret-file belong together")
	}
	var err error
	if l.CHAP.User = f.chapUser; f.chapUser != "" {
		if l.CHAP.Secret, err = readSecret(f.chapFile); err != nil {
			return err
		}
	}
	if l.CHAP.TargetUser = f.targetUser; f.targetFile != "" {
		if l.CHAP.TargetSecret, err = readSecret(f.targetFile); err != nil {
			return err
		}
	}
	return nil
}

// readSecret reads a secret without the newline at its end.
func readSecret(name string) ([]byte, error) {
	b, err := os.ReadFile(name)
	if err != nil {
		return nil, fmt.Errorf("bench: %w", err)
	}
	return []byte(strings.TrimRight(string(b), "\r\n")), nil
}

// parseLUNs reads a list such as "0,2-5".
func parseLUNs(s string) ([]uint16, error) {
	if s == "" {
		return nil, nil
	}
	var luns []uint16
	for part := range strings.SplitSeq(s, ",") {
		from, to, isRange := strings.Cut(part, "-")
		if !isRange {
			to = from
		}
		a, err1 := strconv.ParseUint(from, 10, 14)
		b, err2 := strconv.ParseUint(to, 10, 14)
		if err1 != nil || err2 != nil || a > b {
			return nil, fmt.Errorf("bench: LUNs %q, want a list such as 0,2-5", s)
		}
		for n := a; n <= b; n++ {
			luns = append(luns, uint16(n))
		}
	}
	return luns, nil
}

// isTerminal tells whether w is a character device.
func isTerminal(w io.Writer) bool {
	f, ok := w.(*os.File)
	if !ok {
		return false
	}
	st, err := f.Stat()
	return err == nil && st.Mode()&os.ModeCharDevice != 0
}
