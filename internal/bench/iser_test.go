package bench_test

import (
	"context"
	"net"
	"testing"
	"time"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/internal/bench"
	"github.com/iserd/iserd/luns/memory"
)

const iserdTarget = "iqn.2026-11.com.example:bench"

// startBoth serves LUN 0 over TCP and iSER at one address.
func startBoth(t *testing.T) (address string) {
	t.Helper()
	srv, err := iserd.NewServer()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if err := srv.Shutdown(ctx); err != nil {
			t.Error(err)
		}
	})
	disk, err := memory.New(memory.Options{Size: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddTarget(t.Context(), iserdTarget, iserd.AnyInitiator(), iserd.LUN(0, disk)); err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	if _, err := srv.AddPortal(t.Context(), l); err != nil {
		t.Fatal(err)
	}
	return l.Addr().String()
}

// TestISER: every mode and size over iSER, with data that is checked, and what one
// transport wrote is what the other reads.
func TestISER(t *testing.T) {
	at := startBoth(t)
	url := func(scheme string) initiator.URL {
		u, err := initiator.ParseURL(scheme + "://" + at + "/" + iserdTarget + "/0")
		if err != nil {
			t.Fatal(err)
		}
		return u
	}
	for _, tt := range []struct {
		name   string
		adjust func(o *bench.Options)
	}{
		{"randread", func(*bench.Options) {}},
		{"randwrite", func(o *bench.Options) { o.Mode = bench.RandWrite }},
		{"read 256K", func(o *bench.Options) { o.Mode, o.BlockSize, o.Count = bench.SeqRead, 256<<10, 300 }},
		{"write 128K", func(o *bench.Options) { o.Mode, o.BlockSize, o.Count = bench.SeqWrite, 128<<10, 300 }},
		{"verify 512", func(o *bench.Options) { o.Mode, o.Verify, o.BlockSize = bench.RandRW, true, 512 }},
		{"verify 4K", func(o *bench.Options) { o.Mode, o.Verify, o.Sessions = bench.RandRW, true, 4 }},
		{"verify 8K", func(o *bench.Options) { o.Mode, o.Verify, o.BlockSize = bench.RandRW, true, 8<<10 }},
		{"verify 8.5K", func(o *bench.Options) { o.Mode, o.Verify, o.BlockSize = bench.RandRW, true, 8704 }},
		{"verify 64K", func(o *bench.Options) { o.Mode, o.Verify, o.BlockSize = bench.SeqRW, true, 64<<10 }},
		{"verify 1M", func(o *bench.Options) { o.Mode, o.Verify, o.BlockSize, o.Count = bench.SeqRW, true, 1<<20, 200 }},
		{"verify without immediate data", func(o *bench.Options) {
			o.Mode, o.Verify, o.Login.ImmediateData = bench.RandRW, true, initiator.No
		}},
		{"deeper than the window", func(o *bench.Options) { o.Mode, o.Verify, o.QueueDepth = bench.RandRW, true, 300 }},
		{"one at a time", func(o *bench.Options) { o.QueueDepth, o.Poll = 1, 50*time.Microsecond }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := bench.DefaultOptions()
			o.URL, o.Count = url("iser"), 3000
			tt.adjust(&o)
			r, err := run(t, o)
			if err != nil {
				t.Fatal(err)
			}
			if r.Total.IOs != o.Count || o.Verify && r.Verify.CheckedReads == 0 {
				t.Errorf("%d I/Os, verify %+v", r.Total.IOs, r.Verify)
			}
		})
	}
	o := bench.DefaultOptions()
	o.Mode, o.Verify, o.BlockSize, o.Size, o.Count = bench.SeqWrite, true, 64<<10, 8<<20, 128
	for _, way := range [][2]string{{"iser", "iscsi"}, {"iscsi", "iser"}} {
		o.Mode, o.URL, o.Seed = bench.SeqWrite, url(way[0]), o.Seed+1
		if _, err := run(t, o); err != nil {
			t.Fatal(err)
		}
		o.Mode, o.URL = bench.SeqRead, url(way[1])
		if r, err := run(t, o); err != nil || r.Verify.CheckedReads != o.Count {
			t.Errorf("written by %s, read by %s: %v", way[0], way[1], err)
		}
	}
}
