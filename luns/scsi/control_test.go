package scsi_test

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/scsi"
)

// unhex joins labelled fragments of hexadecimal digits.
func unhex(t *testing.T, fragments ...string) []byte {
	t.Helper()
	b, err := hex.DecodeString(strings.ReplaceAll(strings.Join(fragments, ""), " ", ""))
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func ascii(s string) string { return hex.EncodeToString([]byte(s)) }

func nul(n int) string { return strings.Repeat("00", n) }

// TestGoldenData compares the data-in of control commands byte for byte.
func TestGoldenData(t *testing.T) {
	b := newFake(mib)
	b.mapper = true
	b.info.PhysicalBlockSize = 4096
	b.info.OptimalIOSize = 65536
	r := newRig(t, baseConfig, b)
	for _, tt := range []struct {
		name string
		cdb  []byte
		want []string
	}{
		{"INQUIRY", []byte{0x12, 0, 0, 0, 255, 0}, []string{
			"00 00 06 12 5b 08 00 02", ascii("ISERD   "), ascii("DISK            "), ascii("1.0 "),
			nul(22), "00a0 0460 04c0 0960 05c0 0600", nul(26),
		}},
		{"VPD 00", []byte{0x12, 1, 0, 0, 255, 0}, []string{"00 00 0008 00 80 83 86 8f b0 b1 b2"}},
		{"VPD 80", []byte{0x12, 1, 0x80, 0, 255, 0}, []string{"00 80 0010", ascii("0123456789abcdef")}},
		{"VPD 83", []byte{0x12, 1, 0x83, 1, 0, 0}, []string{
			"00 83 0090",
			"01 03 00 08 3123456789abcdef",
			"02 01 00 28", ascii("ISERD   DISK            0123456789abcdef"),
			"51 94 00 04 0000 0002",
			"53 98 00 28", ascii("iqn.2024-01.org.example:disk,t,0x0001"), nul(3),
			"53 a8 00 20", ascii("iqn.2024-01.org.example:disk"), nul(4),
		}},
		{"VPD 86", []byte{0x12, 1, 0x86, 0, 255, 0}, []string{"00 86 003c 00 07 01", nul(57)}},
		{"VPD 8F", []byte{0x12, 1, 0x8F, 0, 255, 0}, []string{
			"00 8f 0064",
			"0001 000c 0b 83 03 00 01 1c 84 04 00 03 04 05",
			"0004 001c 00000000 0040 0040 00000f00 00000000", nul(12),
			"0008 0004 02 02 e4 00",
			"000c 0004 0002 ffff",
			"8001 0020 00000040 00000040 0ffff000 09 00", nul(18),
		}},
		{"RECEIVE COPY OPERATING PARAMETERS", []byte{0x84, 3, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, []string{
			"0000002a 01 000000 0040 0040 00000f00 0ffff000", nul(14), "0040 40 09 00 00 000000 02 02 e4",
		}},
		{"VPD B0", []byte{0x12, 1, 0xB0, 0, 255, 0}, []string{
			"00 b0 003c 01 ff 0008 00008000 00000080 00000000",
			"00100000 00000100 00000008 80000000 0000000000008000", nul(20),
		}},
		{"VPD B1", []byte{0x12, 1, 0xB1, 0, 255, 0}, []string{"00 b1 003c 0001 00 40", nul(56)}},
		{"VPD B2", []byte{0x12, 1, 0xB2, 0, 255, 0}, []string{"00 b2 0004 00 e4 02 00"}},
		{"REQUEST SENSE", []byte{3, 0, 0, 0, 255, 0}, []string{"70 00 00 00000000 0a", nul(10)}},
		{"REQUEST SENSE DESC", []byte{3, 1, 0, 0, 255, 0}, []string{"72 00 00 00 000000 00"}},
		{"READ CAPACITY(10)", []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0}, []string{"000007ff 00000200"}},
		{"READ CAPACITY(16)", []byte{0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 255}, []string{
			"00000000000007ff 00000200 00 03 c000", nul(16),
		}},
		{"MODE SENSE(6) caching", []byte{0x1A, 0, 8, 0, 255, 0}, []string{
			"1f 00 10 08 00000800 00000200", "08 12 04", nul(17),
		}},
		{"MODE SENSE(6) changeable", []byte{0x1A, 8, 0x7F, 0xFF, 255, 0}, []string{
			"5b 00 10 00", "01 0a", nul(10), "08 12 04", nul(17), "0a 0a 04 00 08 40", nul(6), "4a 01 001c", nul(28), "1c 0a", nul(10),
		}},
		{"MODE SENSE(10) all", []byte{0x5A, 0x10, 0x3F, 0, 0, 0, 0, 1, 0, 0}, []string{
			"004e 00 10 01 00 0010", "0000000000000800 00000000 00000200",
			"01 0a", nul(10), "08 12 04", nul(17), "0a 0a 02 10 00", nul(7), "1c 0a 08", nul(9),
		}},
		{"MODE SENSE(10) defaults", []byte{0x5A, 8, 0x8A, 0xFF, 0, 0, 0, 1, 0, 0}, []string{
			"0032 00 10 00 00 0000", "0a 0a 02 10 00", nul(7), "4a 01 001c 06", nul(27),
		}},
		{"REPORT LUNS", []byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, []string{"00000008 00000000 0000000000000000"}},
		{"REPORT LUNS well known", []byte{0xA0, 0, 1, 0, 0, 0, 0, 0, 1, 0, 0, 0}, []string{"00000008 00000000 c101000000000000"}},
		{"REPORT SUPPORTED TMF", []byte{0xA3, 0x0D, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0}, []string{"d800 0000"}},
		{"REPORT SUPPORTED TMF REPD", []byte{0xA3, 0x0D, 0x80, 0, 0, 0, 0, 0, 1, 0, 0, 0}, []string{"d800 000c", nul(12)}},
		{"RSOC READ(10)", []byte{0xA3, 0x0C, 1, 0x28, 0, 0, 0, 0, 1, 0, 0, 0}, []string{
			"00 03 000a 28 f8 ffffffff 00 ffff 00",
		}},
		{"RSOC unsupported", []byte{0xA3, 0x0C, 1, 0x05, 0, 0, 0, 0, 1, 0, 0, 0}, []string{"00 01 0000"}},
		{"RSOC timeouts", []byte{0xA3, 0x0C, 0x83, 0x9E, 0, 0x10, 0, 0, 1, 0, 0, 0}, []string{
			"00 83 0010 9e 10 0000000000000000 ffffffff 0000 000a", nul(10),
		}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			want := unhex(t, tt.want...)
			if diff := cmp.Diff(want, r.good(tt.cdb, nil)); diff != "" {
				t.Errorf("(-want +got)\n%s", diff)
			}
		})
	}
}

// TestOperationCodes holds REPORT SUPPORTED OPERATION CODES against what the
// device server does: everything listed is known, everything else is not.
func TestOperationCodes(t *testing.T) {
	for _, thin := range []bool{true, false} {
		b := newFake(mib)
		b.mapper = true
		cfg := baseConfig
		cfg.Thin = thin
		r := newRig(t, cfg, b)
		in := r.good([]byte{0xA3, 0x0C, 0, 0, 0, 0, 0, 0, 255, 255, 0, 0}, nil)
		if int(binary.BigEndian.Uint32(in)) != len(in)-4 {
			t.Fatal("COMMAND DATA LENGTH")
		}
		listed := map[[2]byte]bool{}
		for d := in[4:]; len(d) > 0; d = d[8:] {
			sa := byte(0xFF)
			if d[5]&1 != 0 {
				sa = d[3]
			}
			listed[[2]byte{d[0], sa}] = true
			one := r.good([]byte{0xA3, 0x0C, 3, d[0], d[2], d[3], 0, 0, 255, 255, 0, 0}, nil)
			if one[1] != 3 || !bytes.Equal(one[2:4], d[6:8]) || len(one) != 4+int(d[7]) || one[4] != d[0] {
				t.Errorf("%02x/%02x: one command data % x", d[0], sa, one)
			}
		}
		if !listed[[2]byte{0x12, 0xFF}] || listed[[2]byte{0x42, 0xFF}] != thin || listed[[2]byte{0x9E, 0x12}] != thin {
			t.Errorf("thin %v: listed %v", thin, listed)
		}
		for op := range 256 {
			for sa := range 32 {
				got := r.do([]byte{byte(op), byte(sa), 0, 0, 0, 0}, nil)
				known := listed[[2]byte{byte(op), 0xFF}] || listed[[2]byte{byte(op), byte(sa)}]
				_, asc := got.key()
				if listed[[2]byte{byte(op), 0xFF}] && asc != scsi.InvalidOperationCode {
					continue // has no service actions: the field in error is another
				}
				if known == got.unknown() {
					t.Errorf("%02x/%02x: listed %v, got %v", op, sa, known, got)
				}
			}
			drainAttentions(t, r.nexus)
		}
	}
}

func TestInvalidControlFields(t *testing.T) {
	b := newFake(mib)
	cfg := baseConfig
	cfg.Thin = false
	r := newRig(t, cfg, b)
	for name, cdb := range map[string][]byte{
		"page without EVPD":         {0x12, 0, 0x80, 0, 255, 0},
		"CMDDT":                     {0x12, 2, 0, 0, 255, 0},
		"VPD B2 of a thick unit":    {0x12, 1, 0xB2, 0, 255, 0},
		"VPD unknown":               {0x12, 1, 0x84, 0, 255, 0},
		"mode page":                 {0x1A, 0, 0x05, 0, 255, 0},
		"mode subpage":              {0x1A, 0, 0x08, 1, 255, 0},
		"all pages with subpage":    {0x1A, 0, 0x3F, 1, 255, 0},
		"SELECT REPORT":             {0xA0, 0, 3, 0, 0, 0, 0, 0, 1, 0, 0, 0},
		"RSOC option":               {0xA3, 0x0C, 4, 0, 0, 0, 0, 0, 1, 0, 0, 0},
		"RSOC 1 with actions":       {0xA3, 0x0C, 1, 0x9E, 0, 0, 0, 0, 1, 0, 0, 0},
		"RSOC 2 without actions":    {0xA3, 0x0C, 2, 0x28, 0, 0, 0, 0, 1, 0, 0, 0},
		"WRITE SAME UNMAP of thick": with(rw16(0x93, 0, 1), 1, 8),
		"PREVENT":                   {0x1E, 0, 0, 0, 2, 0},
		"MODE SELECT without PF":    {0x15, 0, 0, 0, 0, 0},
		"MODE SELECT SP":            {0x15, 0x11, 0, 0, 0, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			got := r.bad(cdb, nil, scsi.IllegalRequest, scsi.InvalidFieldInCDB)
			if got.sense[15]&0xC0 != 0xC0 {
				t.Errorf("no field pointer in % x", got.sense)
			}
		})
	}
	r.bad([]byte{0x1A, 0, 0xC8, 0, 255, 0}, nil, scsi.IllegalRequest, scsi.SavingParamsNotSupported)
}

func TestModeSelect(t *testing.T) {
	b := newFake(mib)
	r := newRig(t, baseConfig, b)
	other := r.attach()
	page := func() []byte { return bytes.Clone(r.good([]byte{0x1A, 8, 8, 0, 255, 0}, nil)[4:]) }

	caching := page()
	caching[2] &^= 4 // WCE off
	r.good(modeSelect6(caching))
	if got := page(); got[2] != 0 {
		t.Fatalf("WCE still set: % x", got)
	}
	r.good(rw10(0x2A, 0, 1), fill(512, 1))
	if got := b.log[len(b.log)-1]; got != "write fua" {
		t.Errorf("with WCE zero: %s", got)
	}
	if r.nexus.Pending() {
		t.Error("unit attention for the nexus that changed the page")
	}
	rr := &rig{tb: t, nexus: other}
	rr.bad([]byte{0, 0, 0, 0, 0, 0}, nil, scsi.UnitAttention, scsi.ModeParametersChanged)
	rr.good([]byte{0, 0, 0, 0, 0, 0}, nil)

	r.good(modeSelect6(caching)) // no change, no attention
	if other.Pending() {
		t.Error("unit attention without a change")
	}
	caching[2] |= 0x01 // RCD cannot be changed
	cdb, list := modeSelect6(caching)
	got := r.bad(cdb, list, scsi.IllegalRequest, scsi.InvalidFieldInParamList)
	if want := []byte{0x80, 0, 6}; !bytes.Equal(got.sense[15:18], want) {
		t.Errorf("field pointer % x, want % x", got.sense[15:18], want)
	}
	for name, list := range map[string][]byte{
		"unknown page":    {0, 0, 0, 0, 0x05, 0x02, 0, 0},
		"wrong length":    {0, 0, 0, 0, 0x08, 0x02, 0, 0},
		"block length":    {0, 0, 0, 8, 0, 0, 0, 0, 0, 0, 16, 0},
		"capacity":        {0, 0, 0, 8, 0, 0, 1, 0, 0, 0, 2, 0},
		"bad descriptors": {0, 0, 0, 4, 0, 0, 1, 0, 0, 0, 2, 0},
	} {
		t.Run(name, func(t *testing.T) {
			r := &rig{tb: t, nexus: r.nexus}
			r.bad([]byte{0x15, 0x10, 0, 0, byte(len(list)), 0}, list, scsi.IllegalRequest, scsi.InvalidFieldInParamList)
		})
	}
	r.good([]byte{0x15, 0x10, 0, 0, 12, 0}, []byte{0, 0, 0, 8, 0, 0, 8, 0, 0, 0, 2, 0})
	r.bad([]byte{0x15, 0x10, 0, 0, 3, 0}, make([]byte, 3), scsi.IllegalRequest, scsi.ParameterListLengthError)
	r.bad([]byte{0x15, 0x10, 0, 0, 23, 0}, list[:23], scsi.IllegalRequest, scsi.ParameterListLengthError)

	t.Run("software write protect", func(t *testing.T) {
		r := &rig{tb: t, nexus: r.nexus}
		control := []byte{0x0A, 0x0A, 6, 0x10, 8, 0, 0, 0, 0, 0, 0, 0}
		list := append(make([]byte, 8), control...)
		r.good([]byte{0x55, 0x10, 0, 0, 0, 0, 0, 0, byte(len(list)), 0}, list)
		got := r.bad(rw10(0x2A, 0, 1), fill(512, 1), scsi.DataProtect, scsi.SoftwareWriteProtected)
		if got.sense[0] != 0x72 {
			t.Errorf("D_SENSE is set, sense % x", got.sense)
		}
	})
	r.port.Reset()
	r.bad([]byte{0, 0, 0, 0, 0, 0}, nil, scsi.UnitAttention, scsi.BusDeviceResetOccurred)
	if page()[2] != 4 {
		t.Error("LOGICAL UNIT RESET kept WCE")
	}
	r.good(rw10(0x2A, 0, 1), fill(512, 1))
}

func TestWriteCacheNotChangeable(t *testing.T) {
	b := newFake(mib)
	b.info.VolatileCache = false
	r := newRig(t, baseConfig, b)
	if p := r.good([]byte{0x1A, 8, 0x08, 0, 255, 0}, nil); p[6] != 0 {
		t.Error("WCE set without a volatile cache")
	}
	page := make([]byte, 20)
	page[0], page[1], page[2] = 8, 0x12, 4
	cdb, list := modeSelect6(page)
	r.bad(cdb, list, scsi.IllegalRequest, scsi.InvalidFieldInParamList)
}

func TestUnitAttention(t *testing.T) {
	tur := []byte{0, 0, 0, 0, 0, 0}
	b := newFake(mib)
	b.mapper = true
	r := newRig(t, baseConfig, b)
	n := r.port.Attach(testITN)
	other := r.attach()
	rr := &rig{tb: t, nexus: n}
	rr.good([]byte{0x12, 0, 0, 0, 96, 0}, nil) // INQUIRY does not clear
	rr.good([]byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0}, nil)
	got := rr.bad(rw10(0x2A, 0, 4), nil, scsi.UnitAttention, scsi.PowerOnOccurred)
	if got.outLen != 4*512 {
		t.Errorf("OutLen %d under unit attention", got.outLen)
	}
	rr.good(tur, nil)

	t.Run("order and duplicates", func(t *testing.T) {
		rr := &rig{tb: t, nexus: n}
		for range 2 {
			n.Attention(scsi.AttentionModeParametersChanged)
			n.Attention(scsi.AttentionCapacityChanged)
			n.Attention(scsi.AttentionNexusLoss)
			n.Attention(scsi.AttentionBusDeviceReset)
			n.Attention(scsi.AttentionNexusLoss)
		}
		rr.bad([]byte{0xC0, 0, 0, 0, 0, 0}, nil, scsi.UnitAttention, scsi.BusDeviceResetOccurred)
		rr.bad(tur, nil, scsi.UnitAttention, scsi.CapacityDataHasChanged)
		in := rr.good([]byte{3, 0, 0, 0, 18, 0}, nil) // REQUEST SENSE takes one
		if in[2] != 6 || in[12] != 0x2A || in[13] != 1 {
			t.Errorf("REQUEST SENSE % x", in)
		}
		rr.good(tur, nil)
	})
	t.Run("REPORT LUNS clears 3F/0E", func(t *testing.T) {
		rr := &rig{tb: t, nexus: n}
		n.Attention(scsi.AttentionReportedLUNsChanged)
		rr.good([]byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0}, nil)
		rr.good(tur, nil)
	})
	t.Run("all but one", func(t *testing.T) {
		r.port.Attention(scsi.AttentionInquiryChanged, other)
		if other.Pending() || !n.Pending() || !r.nexus.Pending() {
			t.Error("wrong nexuses")
		}
		n.Detach()
		n.Detach()
		drainAttentions(t, n)
		r.port.Attention(scsi.AttentionInquiryChanged, nil)
		if n.Pending() {
			t.Error("unit attention for a detached nexus")
		}
	})
}

func TestRemovable(t *testing.T) {
	b := newFake(mib)
	b.mapper = true
	cfg := baseConfig
	cfg.Removable = true
	r := newRig(t, cfg, b)
	other := &rig{tb: t, nexus: r.attach()}
	eject, load := []byte{0x1B, 0, 0, 0, 2, 0}, []byte{0x1B, 0, 0, 0, 3, 0}
	other.good([]byte{0x1E, 0, 0, 0, 1, 0}, nil)
	r.bad(eject, nil, scsi.IllegalRequest, scsi.MediumRemovalPrevented)
	other.good([]byte{0x1E, 0, 0, 0, 0, 0}, nil)
	r.good(eject, nil)
	other.bad([]byte{0, 0, 0, 0, 0, 0}, nil, scsi.NotReady, scsi.MediumNotPresent)
	other.bad(rw10(0x28, 0, 1), nil, scsi.NotReady, scsi.MediumNotPresent)
	other.good([]byte{0x12, 0, 0, 0, 96, 0}, nil)
	other.good([]byte{0x1E, 0, 0, 0, 1, 0}, nil)
	r.bad(load, nil, scsi.IllegalRequest, scsi.MediumRemovalPrevented)
	other.good([]byte{0x1E, 0, 0, 0, 0, 0}, nil)
	r.good(load, nil)
	for power := range byte(16) {
		if power > 0 { // LOEJ is ignored then
			r.good([]byte{0x1B, 0, 0, 0, power<<4 | 2, 0}, nil)
		}
	}
	r.good([]byte{0, 0, 0, 0, 0, 0}, nil)
	other.bad([]byte{0, 0, 0, 0, 0, 0}, nil, scsi.UnitAttention, scsi.MediumMayHaveChanged)
}

func TestNoUnit(t *testing.T) {
	luns := []uint16{1, 300}
	const wellKnown = uint64(0xC101) << 48
	tur := []byte{0, 0, 0, 0, 0, 0}
	for _, tt := range []struct {
		name   string
		lun    uint64
		cdb    []byte
		status scsi.Status
		asc    scsi.ASC
		prefix string
	}{
		{"INQUIRY", 0, []byte{0x12, 0, 0, 0, 96, 0}, scsi.Good, 0, "7f 00 06 12 5b"},
		{"INQUIRY VPD", 0, []byte{0x12, 1, 0, 0, 96, 0}, scsi.Good, 0, "7f 00 0001 00"},
		{"INQUIRY VPD 83", 0, []byte{0x12, 1, 0x83, 0, 96, 0}, scsi.CheckCondition, scsi.InvalidFieldInCDB, ""},
		{"REQUEST SENSE", 0, []byte{3, 0, 0, 0, 18, 0}, scsi.Good, 0, "70 00 05 00000000 0a 00000000 25 00"},
		{"REPORT LUNS", 0, []byte{0xA0, 0, 0, 0, 0, 0, 0, 0, 1, 0}, scsi.Good, 0, "00000010 00000000 0001000000000000 412c000000000000"},
		{"REPORT LUNS all", wellKnown, []byte{0xA0, 0, 2, 0, 0, 0, 0, 0, 1, 0}, scsi.Good, 0, "00000018 00000000 c101000000000000 0001000000000000"},
		{"TEST UNIT READY", 0, tur, scsi.CheckCondition, scsi.LUNotSupported, ""},
		{"READ", 0, rw10(0x28, 0, 1), scsi.CheckCondition, scsi.LUNotSupported, ""},
		{"well known INQUIRY", wellKnown, []byte{0x12, 0, 0, 0, 96, 0}, scsi.Good, 0, "1e 00 06 12 5b"},
		{"well known REQUEST SENSE", wellKnown, []byte{3, 0, 0, 0, 18, 0}, scsi.Good, 0, "70 00 00"},
		{"well known TEST UNIT READY", wellKnown, tur, scsi.Good, 0, ""},
		{"well known READ", wellKnown, rw10(0x28, 0, 1), scsi.CheckCondition, scsi.InvalidOperationCode, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			c := &scsi.Command{CDB: cdb16(tt.cdb)}
			scsi.ExecNoUnit(c, tt.lun, luns)
			if c.Status != tt.status {
				t.Fatalf("status %v", c.Status)
			}
			if want := unhex(t, tt.prefix); !bytes.HasPrefix(c.In, want) {
				t.Errorf("data % x, want % x…", c.In, want)
			}
			if _, a := (result{sense: c.Sense}).key(); a != tt.asc {
				t.Errorf("ASC %v, want %v", a, tt.asc)
			}
			c.Release()
		})
	}
}

func TestLUNCodec(t *testing.T) {
	for _, n := range []uint16{0, 1, 255, 256, 16383} {
		if got, ok := scsi.DecodeLUN(scsi.EncodeLUN(n)); !ok || got != n {
			t.Errorf("%d: got %d, %v", n, got, ok)
		}
	}
	for _, lun := range []uint64{0xC101 << 48, 0x0100 << 48, 0x8000 << 48, 1, 1 << 40} {
		if n, ok := scsi.DecodeLUN(lun); ok {
			t.Errorf("%#x is taken for %d", lun, n)
		}
	}
	if n, ok := scsi.DecodeLUN(0x4005 << 48); !ok || n != 5 {
		t.Error("flat space addressing of a small number")
	}
}

func TestInventory(t *testing.T) {
	b := newFake(mib)
	r := newRig(t, baseConfig, b)
	r.nexus.Inventory = func() []uint16 { return []uint16{0, 7} }
	in := r.good([]byte{0xA0, 0, 0x11, 0, 0, 0, 0, 0, 0, 20, 0, 0}, nil)
	if want := unhex(t, "00000010 00000000 0000000000000000 00070000"); !bytes.Equal(in, want) {
		t.Errorf("got % x", in)
	}
}

func TestNewUnitChecks(t *testing.T) {
	good := baseConfig
	for name, f := range map[string]func(*scsi.Config, *fake){
		"block size":        func(c *scsi.Config, _ *fake) { c.BlockSize = 1024 },
		"backend block":     func(_ *scsi.Config, b *fake) { b.info.BlockSize = 4096 },
		"size":              func(_ *scsi.Config, b *fake) { b.info.Size = mib + 1 },
		"empty":             func(_ *scsi.Config, b *fake) { b.info.Size = 0 },
		"no serial":         func(c *scsi.Config, _ *fake) { c.Serial = "" },
		"long vendor":       func(c *scsi.Config, _ *fake) { c.Vendor = "123456789" },
		"product not ASCII": func(c *scsi.Config, _ *fake) { c.Product = "Gerät" },
		"NAA":               func(c *scsi.Config, _ *fake) { c.NAA = 1 },
		"max transfer":      func(c *scsi.Config, _ *fake) { c.MaxTransferLength = 1 << 31 },
		"exponent":          func(c *scsi.Config, _ *fake) { c.PhysicalBlockExponent = 16 },
	} {
		t.Run(name, func(t *testing.T) {
			c, b := good, newFake(mib)
			f(&c, b)
			if _, err := scsi.NewUnit(c, b); err == nil {
				t.Error("accepted")
			}
		})
	}
	t.Run("thin without unmap", func(t *testing.T) {
		if _, err := scsi.NewUnit(good, onlyBackend{newFake(mib)}); err == nil {
			t.Error("accepted")
		}
	})
}

// onlyBackend hides every capability.
type onlyBackend struct{ luns.Backend }

func (onlyBackend) As(any) bool { return false }

func Test4096(t *testing.T) {
	b := newFake(mib)
	cfg := baseConfig
	cfg.BlockSize = 4096
	r := newRig(t, cfg, b)
	r.good(rw10(0x2A, 255, 1), fill(4096, 3))
	r.bad(rw10(0x2A, 255, 2), fill(8192, 3), scsi.IllegalRequest, scsi.LBAOutOfRange)
	if b.mem[mib-1] != 3 || slices.Contains(b.mem[:mib-4096], 3) {
		t.Error("written elsewhere")
	}
}

func TestResized(t *testing.T) {
	b := newFake(mib)
	b.mapper = true
	r := newRig(t, baseConfig, b)
	if changed, err := r.unit.Resized(); changed || err != nil {
		t.Errorf("got %v, %v", changed, err)
	}
	b.mem, b.info.Size = make([]byte, 2*mib), 2*mib
	if changed, err := r.unit.Resized(); !changed || err != nil {
		t.Errorf("got %v, %v", changed, err)
	}
	r.good(rw10(0x28, 4095, 1), nil)
}
