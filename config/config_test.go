package config_test

import (
	"net/netip"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/google/go-cmp/cmp/cmpopts"

	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/pdu/chap"
	"github.com/iserd/iserd/pdu/login"
)

const full = `
locals {
  size  = format("%dGiB", 1)
  names = concat(["iqn.1998-01.com.vmware:esx01"], [lower("IQN.1998-01.com.vmware:esx02")])
  later = local.size # refers to another local
}

node {
  name = env("POOL")
}

log {
  level  = "debug"
  format = "json"
  output = "file:/var/log/iserd.log"
  levels = { "tcp" = "warn", "session" = "trace" }
}

limits {
  sessions         = 16
  login_timeout    = "10s"
  nop_interval     = "5s"
  nop_timeout      = "1m30s"
  buffer_memory    = "2GiB"
  shutdown_timeout = "0s"

  commands_per_session = 32
}

auth "esx" {
  type           = "mutual-chap"
  algorithms     = ["SHA-256", "MD5"]
  initiator_name = local.names
  user "esx01" {
    secret = file("/etc/iserd/s/esx01")
  }
  user "esx02" {
    secret = file("/etc/iserd/s/esx02")
  }
  mutual {
    user   = "iserd"
    secret = env("MUTUAL", "")
  }
}

auth "lab" {
  type              = "none"
  initiator_address = ["10.0.0.0/8", "fd00::/8", "192.0.2.7"]
}

portal_group "lan" {
  tag            = 1
  discovery_auth = "lab"
  portal "0.0.0.0:3260" {}
  portal "[::]:3260" {
    transport = "tcp"
  }
}

portal_group "san" {
  tag = 2
  portal "192.0.2.1:860" {
    transport = "iser"
    iser {
      remote_invalidation = false
      initial_r2t         = false
    }
  }
}

backend "file" "boot" {
  path      = "/srv/luns/boot.img"
  size      = 40 * size("1GiB")
  direct_io = true
}

backend "file" "new" {
  path   = "/srv/luns/new.img"
  size   = "1.5G"
  create = true
}

backend "block" "fast" {
  path      = "/dev/sdb"
  read_only = true
}

backend "memory" "scratch" {
  size = local.later
}

backend "null" "hole" {
  size = "1TB"
}

target "iqn.2026-11.com.example:db01" {
  alias         = "Database, primary"
  auth          = auth.esx
  portal_groups = ["lan", portal_group.san]

  session {
    initial_r2t                  = true
    immediate_data               = false
    max_recv_data_segment_length = "128KiB"
    first_burst_length           = "64KiB"
    max_burst_length             = 65536
    max_outstanding_r2t          = 4
    default_time2wait            = 0
    default_time2retain          = 3600
    header_digest                = ["CRC32C"]
    data_digest                  = ["CRC32C", "None"]
  }

  lun "0" {
    backend     = backend.file.boot
    block_size  = 4096
    serial      = "DB010000"
    naa         = "naa.3f3a1b2c3d4e5f60"
    vendor      = "EXAMPLE"
    product     = "BOOT DISK"
    thin        = true
    write_cache = false
    filter "stats" {}
    filter "delay" {
      read   = "1ms"
      flush  = "250us"
      random = "10us"
    }
    filter "fault" {
      operations = ["flush"]
      error      = "medium"
      rate       = 0.25
      skip       = 7
      count      = 1
      offset     = "1MiB"
      length     = "64KiB"
    }
  }
  lun "16383" {
    backend   = backend["block"].fast
    read_only = true
  }

  initiator "iqn.1998-01.com.vmware:esx01" {
    luns = { "0" = "0", "1" = "16383" }
  }
  initiator "iqn.1998-01.com.vmware:esx02" {
    luns      = { "0" = "0" }
    read_only = ["0"]
  }
}

target "iqn.2026-11.com.example:scratch" {
  portal_groups = ["lan"]
  auth          = "lab"
  insecure      = null
  lun "0" {
    backend = backend.memory.scratch
  }
  lun "1" {
    backend = backend.null.hole
  }
  lun "2" {
    backend = backend.file.new
  }
}
`

func TestFull(t *testing.T) {
	got, diags := config.Parse("full.hcl", []byte(full), config.WithHost(testHost()))
	if diags.Len() > 0 {
		t.Fatal(diags.Entries())
	}
	iser := config.PortalISER{RemoteInvalidation: true, InitialR2T: true}
	want := &config.Config{
		Files: []string{"full.hcl"},
		Node:  config.Node{Name: "fast"},
		Log: config.Log{
			Level: "debug", Format: "json", Output: "file:/var/log/iserd.log",
			Levels: map[string]string{"tcp": "warn", "session": "trace"},
		},
		Limits: config.Limits{
			Sessions: 16, LoginTimeout: 10 * time.Second, NopInterval: 5 * time.Second,
			NopTimeout: 90 * time.Second, CommandsPerSession: 32, BufferMemory: 2 << 30,
		},
		Console: config.Console{Listen: config.DefaultConsole, Capture: true},
		Auths: []config.Auth{
			{
				Name: "esx", Type: config.AuthMutualCHAP, Algorithms: []string{"SHA-256", "MD5"},
				InitiatorName: []string{"iqn.1998-01.com.vmware:esx01", "iqn.1998-01.com.vmware:esx02"},
				Users: []config.User{
					{Name: "esx01", Secret: config.NewSecret("secret-of-esx01")},
					{Name: "esx02", Secret: config.NewSecret("secret-of-esx02")},
				},
				Mutual: &config.Mutual{User: "iserd", Secret: config.NewSecret("target-secret-1")},
			},
			{
				Name: "lab", Type: config.AuthNone, Algorithms: []string{"SHA3-256", "SHA-256", "SHA1", "MD5"},
				InitiatorAddress: []netip.Prefix{
					netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("fd00::/8"), netip.MustParsePrefix("192.0.2.7/32"),
				},
			},
		},
		PortalGroups: []config.PortalGroup{
			{Name: "lan", Tag: 1, DiscoveryAuth: "lab", Portals: []config.Portal{
				{Address: "0.0.0.0:3260", Transport: "auto", ISER: iser, AddrPort: netip.MustParseAddrPort("0.0.0.0:3260")},
				{Address: "[::]:3260", Transport: "tcp", ISER: iser, AddrPort: netip.MustParseAddrPort("[::]:3260")},
			}},
			{Name: "san", Tag: 2, Portals: []config.Portal{
				{Address: "192.0.2.1:860", Transport: "iser", AddrPort: netip.MustParseAddrPort("192.0.2.1:860")},
			}},
		},
		Backends: []config.Backend{
			{Kind: "file", Name: "boot", File: &config.FileBackend{Path: "/srv/luns/boot.img", Size: 40 << 30, DirectIO: true}},
			{Kind: "file", Name: "new", File: &config.FileBackend{Path: "/srv/luns/new.img", Size: 3 << 29, Create: true}},
			{Kind: "block", Name: "fast", Block: &config.BlockBackend{Path: "/dev/sdb", DirectIO: true, ReadOnly: true}},
			{Kind: "memory", Name: "scratch", Memory: &config.MemoryBackend{Size: 1 << 30}},
			{Kind: "null", Name: "hole", Null: &config.NullBackend{Size: 1e12}},
		},
		Targets: []config.Target{
			{
				Name: "iqn.2026-11.com.example:db01", Alias: "Database, primary", Auth: "esx",
				PortalGroups: []string{"lan", "san"},
				Session: config.Session{
					MaxConnections: 1, InitialR2T: true, MaxRecvDataSegmentLength: 128 << 10,
					MaxBurstLength: 64 << 10, FirstBurstLength: 64 << 10, MaxOutstandingR2T: 4,
					DefaultTime2Retain: 3600, HeaderDigest: []string{"CRC32C"}, DataDigest: []string{"CRC32C", "None"},
				},
				LUNs: []config.LUN{
					{
						Label: "0", Backend: config.BackendRef{Kind: "file", Name: "boot"}, BlockSize: 4096,
						Serial: "DB010000", NAA: "naa.3f3a1b2c3d4e5f60", Vendor: "EXAMPLE", Product: "BOOT DISK", Thin: true,
						Filters: []config.Filter{
							{Kind: "stats", Stats: &config.StatsFilter{}},
							{Kind: "delay", Delay: &config.DelayFilter{Read: time.Millisecond, Flush: 250 * time.Microsecond, Random: 10 * time.Microsecond}},
							{Kind: "fault", Fault: &config.FaultFilter{Operations: []string{"flush"}, Error: "medium", Rate: 0.25, Skip: 7, Count: 1, Offset: 1 << 20, Length: 64 << 10}},
						},
					},
					{
						Label: "16383", Number: 16383, Backend: config.BackendRef{Kind: "block", Name: "fast"}, BlockSize: 512,
						Vendor: "ISERD", Product: "VIRTUAL-DISK", ReadOnly: true, WriteCache: true,
					},
				},
				Initiators: []config.Initiator{
					{Name: "iqn.1998-01.com.vmware:esx01", LUNs: map[uint16]uint16{0: 0, 1: 16383}},
					{Name: "iqn.1998-01.com.vmware:esx02", LUNs: map[uint16]uint16{0: 0}, ReadOnly: []uint16{0}},
				},
			},
			{
				Name: "iqn.2026-11.com.example:scratch", Auth: "lab", PortalGroups: []string{"lan"}, Session: defaultSession(),
				LUNs: []config.LUN{
					defaultLUN(0, config.BackendMemory, "scratch"),
					defaultLUN(1, config.BackendNull, "hole"),
					defaultLUN(2, config.BackendFile, "new"),
				},
			},
		},
	}
	opts := cmp.Options{
		cmpopts.IgnoreTypes(config.Source{}),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
	}
	if d := cmp.Diff(want, got, opts); d != "" {
		t.Error(d)
	}
}

// defaultSession is what the login phase starts from.
func defaultSession() config.Session {
	l := login.DefaultLimits()
	return config.Session{
		MaxConnections:           l.MaxConnections,
		InitialR2T:               l.InitialR2T,
		ImmediateData:            l.ImmediateData,
		MaxRecvDataSegmentLength: int64(l.MaxRecvDataSegmentLength),
		MaxBurstLength:           int64(l.MaxBurstLength),
		FirstBurstLength:         int64(l.FirstBurstLength),
		DefaultTime2Wait:         l.DefaultTime2Wait,
		DefaultTime2Retain:       l.DefaultTime2Retain,
		MaxOutstandingR2T:        l.MaxOutstandingR2T,
		ErrorRecoveryLevel:       l.ErrorRecoveryLevel,
		HeaderDigest:             l.HeaderDigest,
		DataDigest:               l.DataDigest,
	}
}

func defaultLUN(n uint16, kind config.BackendKind, name string) config.LUN {
	return config.LUN{
		Label: string(rune('0' + n)), Number: n, Backend: config.BackendRef{Kind: kind, Name: name},
		BlockSize: 512, Vendor: "ISERD", Product: "VIRTUAL-DISK", WriteCache: true,
	}
}

func TestEmpty(t *testing.T) {
	c, diags := config.Parse("empty.hcl", nil, config.WithHost(testHost()))
	if c == nil {
		t.Fatal(diags.Error())
	}
	want := &config.Config{
		Log: config.Log{Level: "info", Format: "text", Output: "stderr"},
		Limits: config.Limits{
			Sessions: 1024, LoginTimeout: 15 * time.Second, NopInterval: 5 * time.Second, NopTimeout: 5 * time.Second,
			CommandsPerSession: 128, BufferMemory: 1 << 30, ShutdownTimeout: 5 * time.Second,
		},
		Console: config.Console{Listen: config.DefaultConsole, Capture: true},
		Files:   []string{"empty.hcl"},
	}
	if d := cmp.Diff(want, c, cmpopts.IgnoreTypes(config.Source{})); d != "" {
		t.Error(d)
	}
}

func TestAlgorithmNames(t *testing.T) {
	c, diags := config.Parse("a.hcl", []byte(withAuth("type = \"chap\"\nuser \"u\" { secret = file(\"/etc/iserd/s/esx01\") }")), config.WithHost(testHost()))
	if c == nil {
		t.Fatal(diags.Error())
	}
	var got []chap.Algorithm
	for _, name := range c.Auths[0].Algorithms {
		a, err := chap.ParseAlgorithm(name)
		if err != nil {
			t.Error(err)
		}
		got = append(got, a)
	}
	if d := cmp.Diff(chap.Algorithms(), got); d != "" {
		t.Error(d)
	}
}

func TestLookup(t *testing.T) {
	c, _ := config.Parse("full.hcl", []byte(full), config.WithHost(testHost()))
	if a := c.Auth("lab"); a == nil || a.Name != "lab" {
		t.Errorf("Auth(lab) = %v", a)
	}
	if g := c.PortalGroup("san"); g == nil || g.Tag != 2 {
		t.Errorf("PortalGroup(san) = %v", g)
	}
	ref := config.BackendRef{Kind: config.BackendMemory, Name: "scratch"}
	if b := c.Backend(ref); b == nil || b.Ref() != ref || b.Size() != 1<<30 {
		t.Errorf("Backend(%v) = %v", ref, b)
	}
	if c.Auth("x") != nil || c.PortalGroup("x") != nil || c.Backend(config.BackendRef{}) != nil {
		t.Error("found what is not there")
	}
	l := &c.Targets[0].LUNs[0]
	if r := l.At("serial"); r.Filename != "full.hcl" || full[r.Start.Byte:r.End.Byte] != `"DB010000"` {
		t.Errorf("At(serial) = %v", r)
	}
	if !l.Has("thin") || l.Has("read_only") || l.At("read_only") != l.Header() {
		t.Error("Has or At of an argument that was not written")
	}
	if r := l.Header(); full[r.Start.Byte:r.End.Byte] != `lun "0"` {
		t.Errorf("Header() = %v", r)
	}
}

func TestWarnings(t *testing.T) {
	tests := []struct{ name, src, want string }{
		{"no target", lan + mem, "No target"},
		{"no lun", lan + "target \"iqn.2026-11.com.example:t\" {\ninsecure = true\n}\n", "No LUN"},
		{"no lun 0", lan + mem + "target \"iqn.2026-11.com.example:t\" {\ninsecure = true\nlun \"1\" { backend = backend.memory.m }\n}\n", "No LUN 0"},
		{"unused auth", withTop(chapAuth), "Unused auth"},
		{"unused backend", withTop("backend \"null\" \"n\" { size = \"1GiB\" }"), "Unused backend"},
		{"unused portal group", "portal_group \"wan\" {\ntag = 2\nportal \"127.0.0.2:3260\" {}\n}\n" + withTarget("portal_groups = [\"lan\"]"), "Unused portal group"},
		{"insecure without effect", withTarget("initiator \"iqn.1998-01.com.vmware:esx01\" {}"), "insecure has no effect"},
		{"long secret", withAuth("type = \"chap\"\nuser \"u\" { secret = \"seventeen-bytes-x\" }"), "Long secret"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, diags := config.Parse("w.hcl", []byte(tt.src), config.WithHost(testHost()))
			if c == nil || diags.HasErrors() {
				t.Fatal(diags.Error())
			}
			var got []string
			for _, d := range diags.Entries() {
				if d.Severity != "warning" {
					t.Errorf("%v is not a warning", d)
				}
				got = append(got, d.Summary)
			}
			found := false
			for _, s := range got {
				found = found || s == tt.want
			}
			if !found {
				t.Errorf("warnings %q, want %q among them", got, tt.want)
			}
		})
	}
}
