package bench

import (
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/iserd/iserd/initiator"
)

// Mode is the access pattern, in fio's words.
type Mode uint8

// Access patterns.
const (
	RandRead Mode = iota
	RandWrite
	RandRW
	SeqRead
	SeqWrite
	SeqRW
)

var modeNames = [...]string{"randread", "randwrite", "randrw", "read", "write", "rw"}

// String returns fio's word.
func (m Mode) String() string {
	if int(m) < len(modeNames) {
		return modeNames[m]
	}
	return fmt.Sprintf("Mode(%d)", uint8(m))
}

// ParseMode reads fio's word.
func ParseMode(s string) (Mode, error) {
	for i, name := range modeNames {
		if s == name {
			return Mode(i), nil
		}
	}
	return 0, fmt.Errorf("bench: mode %q, want one of %s", s, strings.Join(modeNames[:], ", "))
}

// Writes tells whether the mode overwrites data.
func (m Mode) Writes() bool { return m != RandRead && m != SeqRead }

func (m Mode) random() bool { return m <= RandRW }

// Options is one measurement.
type Options struct {
	URL   initiator.URL     // target, or logical unit
	LUNs  []uint16          // overrides the URL's
	Login initiator.Options // target name, type and credentials come from URL where unset

	Mode        Mode
	ReadPercent int // of the mixed modes

	BlockSize  int // bytes per I/O
	QueueDepth int // commands in flight per session
	Sessions   int

	Offset, Size int64 // bytes of each LUN to use; Size 0: to its end

	Duration time.Duration // measured time, after Ramp
	Ramp     time.Duration
	Count    uint64 // end after so many I/Os instead

	// Verify writes self-describing blocks, each session in its own part of
	// each LUN, and checks every read.
	Verify bool
	// ReadBack reads all that Verify has written once more at the end.
	ReadBack bool
	Seed     uint64

	PID  int // of the target, to account its CPU time; 0: none
	Poll time.Duration

	Progress io.Writer // a line each second; nil: none
}

// DefaultOptions returns 4 KiB random reads, 32 deep, for ten seconds.
func DefaultOptions() Options {
	return Options{
		ReadPercent: 70, BlockSize: 4096, QueueDepth: 32, Sessions: 1,
		Duration: 10 * time.Second, Ramp: time.Second, Seed: 1, ReadBack: true,
	}
}

// validate returns the first thing that is wrong with o.
func (o *Options) validate() error {
	switch {
	case o.URL.TargetName == "":
		return errors.New("bench: the URL names no target; want iscsi://host[:port]/target-iqn/lun")
	case len(o.LUNs) == 0 && !o.URL.HasLUN:
		return errors.New("bench: which LUN? Neither the URL nor an option says")
	case o.BlockSize < 512 || o.BlockSize > 64<<20 || o.BlockSize%512 != 0:
		return fmt.Errorf("bench: block size %d, want a multiple of 512 up to 64 MiB", o.BlockSize)
	case o.QueueDepth < 1 || o.QueueDepth > 4095:
		return fmt.Errorf("bench: queue depth %d, want 1 to 4095", o.QueueDepth)
	case o.Sessions < 1 || o.Sessions > 10000:
		return fmt.Errorf("bench: %d sessions, want 1 to 10000", o.Sessions)
	case o.ReadPercent < 0 || o.ReadPercent > 100:
		return fmt.Errorf("bench: %d %% reads", o.ReadPercent)
	case o.Duration <= 0 && o.Count == 0:
		return errors.New("bench: neither a duration nor a count")
	case o.Offset < 0 || o.Size < 0 || o.Ramp < 0:
		return errors.New("bench: negative offset, size or ramp")
	}
	return nil
}

// readPercent is the share of reads of the mode.
func (o *Options) readPercent() int {
	switch o.Mode {
	case RandRead, SeqRead:
		return 100
	case RandWrite, SeqWrite:
		return 0
	default:
		return o.ReadPercent
	}
}
