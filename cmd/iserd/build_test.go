package main

import (
	"errors"
	"net/netip"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
	"github.com/iserd/iserd/luns/scsi"
	"github.com/iserd/iserd/pdu/login"
)

// parse returns the configuration in text, which is right.
func parse(t *testing.T, text string) *config.Config {
	t.Helper()
	c, diags := config.Parse("test.hcl", []byte(text))
	if c == nil {
		t.Fatal(diags.Error())
	}
	return c
}

func TestView(t *testing.T) {
	tests := []struct {
		name string
		in   config.Initiator
		want iserd.View
	}{
		{"everything", config.Initiator{}, iserd.View{}},
		{"read-only, own numbers", config.Initiator{ReadOnly: []uint16{3, 1}}, iserd.View{ReadOnly: []uint16{1, 3}}},
		{
			"read-only, mapped",
			config.Initiator{LUNs: map[uint16]uint16{0: 7, 1: 8}, ReadOnly: []uint16{1}},
			iserd.View{LUNs: map[uint16]uint16{0: 7, 1: 8}, ReadOnly: []uint16{8}},
		},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := cmp.Diff(tt.want, view(&tt.in)); d != "" {
				t.Error(d)
			}
		})
	}
}

func TestUnitConfig(t *testing.T) {
	c := parse(t, `
portal_group "p" {
  tag = 1
  portal "127.0.0.1:3260" {}
}
backend "memory" "m" { size = "1MiB" }
backend "memory" "n" { size = "1MiB" }
target "iqn.2026-11.com.example:t" {
  insecure = true
  lun "0" { backend = backend.memory.m }
  lun "1" {
    backend     = backend.memory.n
    block_size  = 4096
    serial      = "S1"
    naa         = "naa.3f3a1b2c3d4e5f60"
    vendor      = "V"
    product     = "P"
    thin        = true
    read_only   = true
    write_cache = false
  }
}
`)
	want := []scsi.Config{
		{Vendor: "ISERD", Product: "VIRTUAL-DISK", Revision: revision, BlockSize: 512, WriteCache: true},
		{Vendor: "V", Product: "P", Revision: revision, Serial: "S1", NAA: 0x3f3a1b2c3d4e5f60, BlockSize: 4096, Thin: true, ReadOnly: true},
	}
	for i := range want {
		got, err := unitConfig(&c.Targets[0].LUNs[i])
		if err != nil {
			t.Fatal(err)
		}
		if d := cmp.Diff(want[i], got); d != "" {
			t.Errorf("LUN %d: %s", i, d)
		}
	}
}

// TestSessionLimits: the defaults are those of the login phase, and every bound
// of the configuration is one that it takes.
func TestSessionLimits(t *testing.T) {
	c := parse(t, demoHCL)
	if d := cmp.Diff(login.DefaultLimits(), sessionLimits(&c.Targets[0].Session)); d != "" {
		t.Error(d)
	}
	for _, s := range []config.Session{
		{MaxConnections: 1, MaxRecvDataSegmentLength: 512, MaxBurstLength: 512, FirstBurstLength: 512, MaxOutstandingR2T: 1, HeaderDigest: []string{"CRC32C"}, DataDigest: []string{"None"}},
		{MaxConnections: 1, MaxRecvDataSegmentLength: 16777215, MaxBurstLength: 16777215, FirstBurstLength: 16777215, DefaultTime2Wait: 3600, DefaultTime2Retain: 3600, MaxOutstandingR2T: 65535, HeaderDigest: []string{"None", "CRC32C"}, DataDigest: []string{"None", "CRC32C"}},
	} {
		if err := sessionLimits(&s).Validate(); err != nil {
			t.Error(err)
		}
	}
}

func TestServerLimits(t *testing.T) {
	c := parse(t, demoHCL)
	want := iserd.Limits{Sessions: 1024, LoginTimeout: 15 * time.Second, NopInterval: 5 * time.Second, NopTimeout: 5 * time.Second, BufferMemory: 1 << 30, CommandWindow: 128}
	if d := cmp.Diff(want, serverLimits(c.Limits)); d != "" {
		t.Error(d)
	}
}

// TestBackends opens each kind, with each filter above it.
func TestBackends(t *testing.T) {
	path := filepath.Join(t.TempDir(), "disk.img")
	filters := parse(t, `
portal_group "p" {
  tag = 1
  portal "127.0.0.1:3260" {}
}
backend "memory" "m" { size = "1MiB" }
target "iqn.2026-11.com.example:t" {
  insecure = true
  lun "0" {
    backend = backend.memory.m
    filter "fault" {
      operations = ["write", "write_zeroes"]
      error      = "no-space"
    }
    filter "stats" {}
    filter "delay" { flush = "1us" }
  }
}
`).Targets[0].LUNs[0].Filters
	for _, b := range []config.Backend{
		{Kind: config.BackendFile, File: &config.FileBackend{Path: path, Size: 1 << 20, Create: true}},
		{Kind: config.BackendMemory, Memory: &config.MemoryBackend{Size: 1 << 20}},
		{Kind: config.BackendNull, Null: &config.NullBackend{Size: 1 << 20}},
	} {
		t.Run(string(b.Kind), func(t *testing.T) {
			open, err := newStores().opener(&b)
			if err == nil {
				open, err = filtered(open, filters, hclog.NewNullLogger())
			}
			if err != nil {
				t.Fatal(err)
			}
			for range 2 { // as when the logical unit is restarted
				s, err := open(t.Context())
				if err != nil {
					t.Fatal(err)
				}
				p := make([]byte, 4096)
				if n := s.Info().Size; n != 1<<20 {
					t.Errorf("size %d", n)
				}
				if err := s.ReadAt(t.Context(), p, 0); err != nil {
					t.Error(err)
				}
				if err := s.WriteAt(t.Context(), p, 0, 0); !errors.Is(err, luns.ErrNoSpace) {
					t.Errorf("WriteAt: %v, want the injected error", err)
				}
				if err := s.Flush(t.Context()); err != nil {
					t.Error(err)
				}
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
		})
	}
	if _, err := os.Stat(path); err != nil {
		t.Error(err)
	}
	if _, err := newStores().opener(&config.Backend{Kind: "rbd"}); err == nil {
		t.Error("an unknown kind is opened")
	}
}

func TestRule(t *testing.T) {
	for name, want := range map[string]error{
		"medium": luns.ErrMedium, "no-space": luns.ErrNoSpace, "read-only": luns.ErrReadOnly,
		"transient": luns.ErrTransient, "offline": luns.ErrOffline,
	} {
		r, err := rule(&config.FaultFilter{Operations: []string{"read", "flush"}, Error: name, Rate: 0.5})
		if err != nil || !errors.Is(r.Err, want) || r.Ops != filter.Read|filter.Flush {
			t.Errorf("%s: %+v, %v", name, r, err)
		}
	}
	if _, err := rule(&config.FaultFilter{Error: "x"}); err == nil {
		t.Error("an unknown error is taken")
	}
	if _, err := rule(&config.FaultFilter{Operations: []string{"x"}, Error: "medium"}); err == nil {
		t.Error("an unknown operation is taken")
	}
}

func TestListen(t *testing.T) {
	a, err := listen(t.Context(), netip.MustParseAddrPort("127.0.0.1:0"))
	if err != nil {
		t.Fatal(err)
	}
	defer a.Close()
	at := addrPort(a)
	if _, err := listen(t.Context(), at); exitCode(err) != exitBusy {
		t.Errorf("the same port again: %v", err)
	}
	// The other address family is bound apart.
	b, err := listen(t.Context(), netip.AddrPortFrom(netip.IPv6Loopback(), at.Port()))
	if err != nil {
		t.Fatal(err)
	}
	b.Close()
	if _, err := listen(t.Context(), netip.MustParseAddrPort("192.0.2.1:3260")); err == nil || exitCode(err) != exitRuntime {
		t.Errorf("an address of another host: %v", err)
	}
}
