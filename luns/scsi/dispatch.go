package scsi

import (
	"fmt"
	"slices"
	"sync"
)

// opFlags are properties of a command that the common path acts on.
type opFlags uint8

const (
	opNoAttention opFlags = 1 << iota // performed although a unit attention is pending, SAM-6 5.14
	opMedium                          // needs the medium to be present
	opWrite                           // changes the medium: refused under write protection
	opService                         // the operation code has service actions
	opUrgent                          // finds a worker even if all of them hang
	opLand                            // its data-out goes to the medium as it is, in whole or in part
)

// accessClass groups commands by what a persistent reservation allows, SPC-5
// table 72 and SBC-4 table 13.
type accessClass uint8

const (
	accessAlways accessClass = iota // allowed under every reservation
	accessRead                      // conflicts with exclusive access
	accessWrite                     // conflicts with write exclusive as well
	accessManage                    // changes the device, not the medium: as accessWrite
)

// String returns the name of the class, or its number.
func (a accessClass) String() string {
	switch a {
	case accessAlways:
		return "always"
	case accessRead:
		return "read"
	case accessWrite:
		return "write"
	case accessManage:
		return "manage"
	default:
		return fmt.Sprintf("accessClass(%d)", uint8(a))
	}
}

// operation is one row of the dispatch table: everything the device server
// knows of a command. What has no row is not supported, and REPORT SUPPORTED
// OPERATION CODES reports exactly the rows.
type operation struct {
	name  string
	flags opFlags
	class accessClass
	needs caps // the unit supports the command only with these
	// rights are what reservations and access states can refuse; derived.
	rights rights

	// usage is the CDB usage data, SPC-5 6.35.3: as long as the CDB, the
	// operation code and service action as they are, and a one for each bit
	// that the device server evaluates.
	usage []byte

	// decode evaluates the CDB: it sets lengths and fields of the command,
	// and returns false after a fail. The CDB has the length of usage.
	decode func(c *Command) bool

	// run performs the command. Inline it returns false, with nothing done,
	// if it would have to wait. On a worker it returns true.
	run func(c *Command, m mode) bool
}

func (o *operation) is(f opFlags) bool { return o.flags&f != 0 }

func (o *operation) opcode() uint8 { return o.usage[0] }

func (o *operation) action() int { return int(o.usage[1] & 0x1F) }

// group is the commands of one operation code: a single one, or one per
// service action.
type group struct {
	single  *operation
	actions [32]*operation
}

// has reports whether a unit with these capabilities has any service action of
// the group.
func (g *group) has(can caps) bool {
	return slices.ContainsFunc(g.actions[:], func(o *operation) bool { return o != nil && o.needs&^can == 0 })
}

// lookup finds the command of a CDB; nil if it is not in the table.
func lookup(t *[256]*group, cdb []byte) *operation {
	if len(cdb) < 6 {
		return nil
	}
	g := t[cdb[0]]
	switch {
	case g == nil:
		return nil
	case g.single != nil:
		return g.single
	default:
		return g.actions[cdb[1]&0x1F]
	}
}

// dispatch returns the table, indexed by operation code. It is built once and
// never changes.
var dispatch = sync.OnceValue(func() *[256]*group {
	t := new([256]*group)
	for _, ops := range [][]operation{controlOperations(), modeOperations(), mediumOperations(), provisioningOperations(), reserveOperations(), prInOperations(), prOutOperations(), accessOperations(), copyOperations(), sanitizeOperations(), formatOperations(), atomicOperations(), bufferOperations(), defectOperations(), timestampOperations(), logOperations()} {
		for i := range ops {
			o := &ops[i]
			o.rights = rightsOf(o)
			g := t[o.opcode()]
			if g == nil {
				g = new(group)
				t[o.opcode()] = g
			}
			if o.is(opService) {
				g.actions[o.action()] = o
			} else {
				g.single = o
			}
		}
	}
	return t
})

// controlOperations are the commands that do not touch blocks.
func controlOperations() []operation {
	return []operation{
		{
			name: "TEST UNIT READY", flags: opMedium,
			usage: []byte{0x00, 0, 0, 0, 0, 0},
			run:   runNothing,
		}, {
			name: "REQUEST SENSE", flags: opNoAttention,
			usage:  []byte{0x03, 0x01, 0, 0, 0xFF, 0},
			decode: decodeRequestSense, run: runRequestSense,
		}, {
			name: "INQUIRY", flags: opNoAttention,
			usage:  []byte{0x12, 0x01, 0xFF, 0xFF, 0xFF, 0},
			decode: decodeInquiry, run: runInquiry,
		}, {
			name: "START STOP UNIT", class: accessManage,
			usage:  []byte{0x1B, 0x01, 0, 0, 0xF7, 0},
			decode: decodeStartStop, run: runStartStop,
		}, {
			name: "SEND DIAGNOSTIC", class: accessManage,
			usage:  []byte{0x1D, 0xFF, 0, 0xFF, 0xFF, 0},
			decode: decodeSendDiagnostic, run: runNothing,
		}, {
			name: "PREVENT ALLOW MEDIUM REMOVAL", class: accessManage,
			usage:  []byte{0x1E, 0, 0, 0, 0x03, 0},
			decode: decodePreventAllow, run: runPreventAllow,
		}, {
			name: "READ CAPACITY(10)", flags: opMedium,
			usage:  []byte{0x25, 0, 0, 0, 0, 0, 0, 0, 0, 0},
			decode: decodeReadCapacity10, run: runReadCapacity10,
		}, {
			name: "READ CAPACITY(16)", flags: opMedium | opService,
			usage:  []byte{0x9E, 0x10, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeAlloc32At10, run: runReadCapacity16,
		}, {
			name: "REPORT LUNS", flags: opNoAttention,
			usage:  []byte{0xA0, 0, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeReportLUNs, run: runReportLUNs,
		}, {
			name: "REPORT SUPPORTED OPERATION CODES", flags: opService,
			usage:  []byte{0xA3, 0x0C, 0x87, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeRSOC, run: runRSOC,
		}, {
			name: "REPORT SUPPORTED TASK MANAGEMENT FUNCTIONS", flags: opService,
			usage:  []byte{0xA3, 0x0D, 0x80, 0, 0, 0, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeRSTMF, run: runRSTMF,
		},
	}
}

// modeOperations are the commands of mode.go.
func modeOperations() []operation {
	return []operation{
		{
			name: "MODE SELECT(6)", class: accessManage,
			usage:  []byte{0x15, 0x11, 0, 0, 0xFF, 0},
			decode: decodeModeSelect6, run: runModeSelect,
		}, {
			name: "MODE SENSE(6)", class: accessRead,
			usage:  []byte{0x1A, 0x08, 0xFF, 0xFF, 0xFF, 0},
			decode: decodeModeSense6, run: runModeSense,
		}, {
			name: "MODE SELECT(10)", class: accessManage,
			usage:  []byte{0x55, 0x11, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0},
			decode: decodeModeSelect10, run: runModeSelect,
		}, {
			name: "MODE SENSE(10)", class: accessRead,
			usage:  []byte{0x5A, 0x18, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0xFF, 0},
			decode: decodeModeSense10, run: runModeSense,
		},
	}
}

// CDB usage data of the shapes that medium access commands share.
func usage10(op, b1 byte) []byte {
	return []byte{op, b1, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0xFF, 0xFF, 0}
}

func usage12(op, b1 byte) []byte {
	return []byte{op, b1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0}
}

func usage16(op, b1 byte) []byte {
	return []byte{op, b1, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0}
}

// mediumOperations are the commands that move or compare blocks.
func mediumOperations() []operation {
	const rd, wr = opMedium, opMedium | opWrite
	return []operation{
		{name: "READ(6)", flags: rd, class: accessRead, usage: []byte{0x08, 0x1F, 0xFF, 0xFF, 0xFF, 0}, decode: decodeRead6, run: runRead},
		{name: "READ(10)", flags: rd, class: accessRead, usage: usage10(0x28, 0xF8), decode: decodeRead10, run: runRead},
		{name: "READ(12)", flags: rd, class: accessRead, usage: usage12(0xA8, 0xF8), decode: decodeRead12, run: runRead},
		{name: "READ(16)", flags: rd, class: accessRead, usage: usage16(0x88, 0xF8), decode: decodeRead16, run: runRead},
		{name: "WRITE(6)", flags: wr | opLand, class: accessWrite, usage: []byte{0x0A, 0x1F, 0xFF, 0xFF, 0xFF, 0}, decode: decodeWrite6, run: runWrite},
		{name: "WRITE(10)", flags: wr | opLand, class: accessWrite, usage: usage10(0x2A, 0xF8), decode: decodeWrite10, run: runWrite},
		{name: "WRITE(12)", flags: wr | opLand, class: accessWrite, usage: usage12(0xAA, 0xF8), decode: decodeWrite12, run: runWrite},
		{name: "WRITE(16)", flags: wr | opLand, class: accessWrite, usage: usage16(0x8A, 0xF8), decode: decodeWrite16, run: runWrite},
		{name: "WRITE AND VERIFY(10)", flags: wr, class: accessWrite, usage: usage10(0x2E, 0xF6), decode: decodeWriteVerify10, run: runWriteVerify},
		{name: "WRITE AND VERIFY(12)", flags: wr, class: accessWrite, usage: usage12(0xAE, 0xF6), decode: decodeWriteVerify12, run: runWriteVerify},
		{name: "WRITE AND VERIFY(16)", flags: wr, class: accessWrite, usage: usage16(0x8E, 0xF6), decode: decodeWriteVerify16, run: runWriteVerify},
		{name: "VERIFY(10)", flags: rd, class: accessRead, usage: usage10(0x2F, 0xF6), decode: decodeVerify10, run: runVerify},
		{name: "VERIFY(12)", flags: rd, class: accessRead, usage: usage12(0xAF, 0xF6), decode: decodeVerify12, run: runVerify},
		{name: "VERIFY(16)", flags: rd, class: accessRead, usage: usage16(0x8F, 0xF6), decode: decodeVerify16, run: runVerify},
		{name: "PRE-FETCH(10)", flags: rd, class: accessRead, usage: usage10(0x34, 0x02), decode: decodePrefetch10, run: runPrefetch},
		{name: "PRE-FETCH(16)", flags: rd, class: accessRead, usage: usage16(0x90, 0x02), decode: decodePrefetch16, run: runPrefetch},
		{name: "SYNCHRONIZE CACHE(10)", flags: rd, class: accessWrite, usage: usage10(0x35, 0x02), decode: decodeSync10, run: runSync},
		{name: "SYNCHRONIZE CACHE(16)", flags: rd, class: accessWrite, usage: usage16(0x91, 0x02), decode: decodeSync16, run: runSync},
		{
			name: "COMPARE AND WRITE", flags: wr, class: accessWrite,
			usage:  []byte{0x89, 0xF8, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0, 0, 0xFF, 0, 0},
			decode: decodeCompareAndWrite, run: runCompareAndWrite,
		},
		{name: "ORWRITE(16)", flags: wr, class: accessWrite, usage: usage16(0x8B, 0xF8), decode: decodeORWrite16, run: runORWrite},
	}
}

// provisioningOperations are WRITE SAME and the commands of logical block
// provisioning, SBC-4 4.7.
func provisioningOperations() []operation {
	const rd, wr = opMedium, opMedium | opWrite
	return []operation{
		{name: "WRITE SAME(10)", flags: wr, class: accessWrite, usage: usage10(0x41, 0xFE), decode: decodeWriteSame10, run: runWriteSame},
		{name: "WRITE SAME(16)", flags: wr, class: accessWrite, usage: usage16(0x93, 0xFF), decode: decodeWriteSame16, run: runWriteSame},
		{
			name: "UNMAP", flags: wr, class: accessWrite, needs: capUnmap,
			usage:  []byte{0x42, 0x01, 0, 0, 0, 0, 0, 0xFF, 0xFF, 0},
			decode: decodeUnmap, run: runUnmap,
		},
		{
			name: "GET LBA STATUS(16)", flags: rd | opService, class: accessRead, needs: capUnmap | capExtents,
			usage:  []byte{0x9E, 0x12, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0xFF, 0, 0},
			decode: decodeGetLBAStatus, run: runGetLBAStatus,
		},
	}
}

// runNothing is a command that is done once its CDB and the state of the
// logical unit have been checked.
func runNothing(*Command, mode) bool { return true }
