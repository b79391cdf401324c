package pdu_test

import (
	"bytes"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/iserd/iserd/pdu"
)

// golden pairs a message with its bytes on the wire, written by hand from the
// layouts of RFC 7143 §11 as one fragment per field.
type golden struct {
	name string
	msg  pdu.Message
	wire [][]byte
}

func zeros(n int) []byte { return make([]byte, n) }

// lun5 is LUN 5 in peripheral device addressing.
var lun5 = []byte{0, 5, 0, 0, 0, 0, 0, 0}

// status is the StatSN, ExpCmdSN and MaxCmdSN that the tests use.
var status = [][]byte{{0, 0, 1, 1}, {0, 0, 2, 2}, {0, 0, 3, 3}}

func requests() []golden {
	return []golden{
		{
			"NOP-Out", &pdu.NOPOut{
				Immediate: true, LUN: pdu.LUNOf(5), InitiatorTaskTag: pdu.ReservedTag,
				TargetTransferTag: 0x01020304, CmdSN: 7, ExpStatSN: 8, DataLen: 3,
			},
			[][]byte{
				{0x40, 0x80, 0, 0}, // I, opcode; 1
				{0}, {0, 0, 3},     // TotalAHSLength, DataSegmentLength
				lun5,                     // LUN
				{0xff, 0xff, 0xff, 0xff}, // Initiator Task Tag
				{1, 2, 3, 4},             // Target Transfer Tag
				{0, 0, 0, 7},             // CmdSN
				{0, 0, 0, 8},             // ExpStatSN
				zeros(16),
			},
		},
		{
			"SCSI Command read with AHS", &pdu.SCSICommand{
				Final: true, Read: true, Attr: pdu.AttrSimple, LUN: pdu.LUNOf(300),
				InitiatorTaskTag: 0x11223344, ExpectedDataTransferLength: 0x10000, CmdSN: 9, ExpStatSN: 10,
				CDB: [16]byte{0x28, 0, 0, 0, 0, 1, 0, 0, 0x80}, AHSLen: 20, DataLen: 0,
			},
			[][]byte{
				{0x01, 0xc1, 0, 0}, // opcode; F, R, ATTR
				{5}, {0, 0, 0},     // TotalAHSLength in words, DataSegmentLength
				{0x41, 0x2c}, zeros(6), // LUN, flat space addressing
				{0x11, 0x22, 0x33, 0x44}, // Initiator Task Tag
				{0, 1, 0, 0},             // Expected Data Transfer Length
				{0, 0, 0, 9},             // CmdSN
				{0, 0, 0, 10},            // ExpStatSN
				{0x28, 0, 0, 0, 0, 1, 0, 0, 0x80}, zeros(7),
			},
		},
		{
			"SCSI Command write with immediate data", &pdu.SCSICommand{
				Immediate: true, Write: true, Attr: pdu.AttrACA, DataLen: 0x010203,
			},
			[][]byte{
				{0x41, 0x24, 0, 0}, // I, opcode; W, ATTR
				{0}, {1, 2, 3},     // TotalAHSLength, DataSegmentLength
				zeros(40),
			},
		},
		{
			"Task Management Function Request", &pdu.TaskManagementRequest{
				Immediate: true, Function: pdu.AbortTask, LUN: pdu.LUNOf(5), InitiatorTaskTag: 1,
				ReferencedTaskTag: 2, CmdSN: 3, ExpStatSN: 4, RefCmdSN: 5, ExpDataSN: 6,
			},
			[][]byte{
				{0x42, 0x81, 0, 0}, // I, opcode; 1, Function
				zeros(4),           // lengths
				lun5,               // LUN
				{0, 0, 0, 1},       // Initiator Task Tag
				{0, 0, 0, 2},       // Referenced Task Tag
				{0, 0, 0, 3},       // CmdSN
				{0, 0, 0, 4},       // ExpStatSN
				{0, 0, 0, 5},       // RefCmdSN
				{0, 0, 0, 6},       // ExpDataSN
				zeros(8),
			},
		},
		{
			"Login Request", &pdu.LoginRequest{
				Transit: true, CSG: pdu.LoginOperational, NSG: pdu.FullFeaturePhase,
				VersionMax: 2, VersionMin: 1, ISID: pdu.ISID{0x00, 0x02, 0x3d, 1, 2, 3}, TSIH: 0x0405,
				InitiatorTaskTag: 6, CID: 0x0708, CmdSN: 9, ExpStatSN: 10, DataLen: 512,
			},
			[][]byte{
				{0x43, 0x87, 2, 1}, // I, opcode; T, CSG, NSG; Version-max; Version-min
				{0}, {0, 2, 0},     // TotalAHSLength, DataSegmentLength
				{0x00, 0x02, 0x3d, 1, 2, 3}, // ISID
				{4, 5},                      // TSIH
				{0, 0, 0, 6},                // Initiator Task Tag
				{7, 8}, {0, 0},              // CID, reserved
				{0, 0, 0, 9},  // CmdSN
				{0, 0, 0, 10}, // ExpStatSN
				zeros(16),
			},
		},
		{
			"Text Request", &pdu.TextRequest{
				Immediate: true, Final: true, LUN: pdu.LUNOf(5), InitiatorTaskTag: 1,
				TargetTransferTag: pdu.ReservedTag, CmdSN: 2, ExpStatSN: 3, DataLen: 16,
			},
			[][]byte{
				{0x44, 0x80, 0, 0}, // I, opcode; F, C
				{0}, {0, 0, 16},    // TotalAHSLength, DataSegmentLength
				lun5,                     // LUN
				{0, 0, 0, 1},             // Initiator Task Tag
				{0xff, 0xff, 0xff, 0xff}, // Target Transfer Tag
				{0, 0, 0, 2},             // CmdSN
				{0, 0, 0, 3},             // ExpStatSN
				zeros(16),
			},
		},
		{
			"SCSI Data-Out", &pdu.DataOut{
				Final: true, LUN: pdu.LUNOf(5), InitiatorTaskTag: 1, TargetTransferTag: 2,
				ExpStatSN: 3, DataSN: 4, BufferOffset: 0x2000, DataLen: 0x1000,
			},
			[][]byte{
				{0x05, 0x80, 0, 0}, // opcode; F
				{0}, {0, 0x10, 0},  // TotalAHSLength, DataSegmentLength
				lun5,            // LUN
				{0, 0, 0, 1},    // Initiator Task Tag
				{0, 0, 0, 2},    // Target Transfer Tag
				zeros(4),        // reserved
				{0, 0, 0, 3},    // ExpStatSN
				zeros(4),        // reserved
				{0, 0, 0, 4},    // DataSN
				{0, 0, 0x20, 0}, // Buffer Offset
				zeros(4),
			},
		},
		{
			"Logout Request", &pdu.LogoutRequest{
				Immediate: true, Reason: pdu.LogoutRemoveConnectionRecovery, InitiatorTaskTag: 1,
				CID: 0x0203, CmdSN: 4, ExpStatSN: 5,
			},
			[][]byte{
				{0x46, 0x82, 0, 0}, // I, opcode; 1, Reason Code
				zeros(4),           // lengths
				zeros(8),           // reserved
				{0, 0, 0, 1},       // Initiator Task Tag
				{2, 3}, {0, 0},     // CID, reserved
				{0, 0, 0, 4}, // CmdSN
				{0, 0, 0, 5}, // ExpStatSN
				zeros(16),
			},
		},
		{
			"SNACK Request", &pdu.SNACK{
				Type: pdu.SNACKRData, LUN: pdu.LUNOf(5), InitiatorTaskTag: 1, TargetTransferTag: 2,
				ExpStatSN: 3, BegRun: 4, RunLength: 5,
			},
			[][]byte{
				{0x10, 0x83, 0, 0}, // opcode; 1, Type
				zeros(4),           // lengths
				lun5,               // LUN
				{0, 0, 0, 1},       // Initiator Task Tag
				{0, 0, 0, 2},       // Target Transfer Tag or SNACK Tag
				zeros(4),           // reserved
				{0, 0, 0, 3},       // ExpStatSN
				zeros(8),           // reserved
				{0, 0, 0, 4},       // BegRun
				{0, 0, 0, 5},       // RunLength
			},
		},
	}
}

func responses() []golden {
	return []golden{
		{
			"NOP-In", &pdu.NOPIn{
				LUN: pdu.LUNOf(5), InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: 1,
				StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303, DataLen: 4,
			},
			[][]byte{
				{0x20, 0x80, 0, 0}, // opcode; 1
				{0},
				{0, 0, 4},                // TotalAHSLength, DataSegmentLength
				lun5,                     // LUN
				{0xff, 0xff, 0xff, 0xff}, // Initiator Task Tag
				{0, 0, 0, 1},             // Target Transfer Tag
				status[0], status[1], status[2],
				zeros(12),
			},
		},
		{
			"SCSI Response", &pdu.SCSIResponse{
				BidiReadUnderflow: true, Overflow: true, Response: pdu.ResponseTargetFailure, Status: 2,
				InitiatorTaskTag: 1, SNACKTag: 2, StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303,
				ExpDataSN: 3, BidiReadResidualCount: 4, ResidualCount: 5, DataLen: 20,
			},
			[][]byte{
				{0x21, 0x8c, 1, 2}, // opcode; 1, u, O; Response; Status
				{0},
				{0, 0, 20},   // TotalAHSLength, DataSegmentLength
				zeros(8),     // reserved
				{0, 0, 0, 1}, // Initiator Task Tag
				{0, 0, 0, 2}, // SNACK Tag
				status[0], status[1], status[2],
				{0, 0, 0, 3}, // ExpDataSN
				{0, 0, 0, 4}, // Bidirectional Read Residual Count
				{0, 0, 0, 5}, // Residual Count
			},
		},
		{
			"SCSI Response underflow", &pdu.SCSIResponse{BidiReadOverflow: true, Underflow: true},
			[][]byte{{0x21, 0x92, 0, 0}, zeros(44)}, // opcode; 1, o, U
		},
		{
			"Task Management Function Response", &pdu.TaskManagementResponse{
				Response: pdu.FunctionRejected, InitiatorTaskTag: 1, Information: [3]byte{0x16, 0x2a, 0x09},
				StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303,
			},
			[][]byte{
				{0x22, 0x80, 255, 0}, // opcode; 1; Response
				zeros(4),             // lengths
				{0x16, 0x2a, 0x09},
				zeros(5),     // Additional Response Information, reserved
				{0, 0, 0, 1}, // Initiator Task Tag
				zeros(4),     // reserved
				status[0], status[1], status[2],
				zeros(12),
			},
		},
		{
			"Login Response", &pdu.LoginResponse{
				Continue: true, CSG: pdu.LoginOperational, VersionMax: 1, VersionActive: 2,
				ISID: pdu.ISID{0x80, 1, 2, 3, 4, 5}, TSIH: 0x0607, InitiatorTaskTag: 8,
				StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303,
				Status: pdu.LoginTargetMovedTemporarily, DataLen: 9,
			},
			[][]byte{
				{0x23, 0x44, 1, 2}, // opcode; C, CSG; Version-max; Version-active
				{0},
				{0, 0, 9},             // TotalAHSLength, DataSegmentLength
				{0x80, 1, 2, 3, 4, 5}, // ISID
				{6, 7},                // TSIH
				{0, 0, 0, 8},          // Initiator Task Tag
				zeros(4),              // reserved
				status[0], status[1], status[2],
				{1},
				{1}, // Status-Class, Status-Detail
				zeros(10),
			},
		},
		{
			"Text Response", &pdu.TextResponse{
				Continue: true, LUN: pdu.LUNOf(5), InitiatorTaskTag: 1, TargetTransferTag: 2,
				StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303, DataLen: 8192,
			},
			[][]byte{
				{0x24, 0x40, 0, 0}, // opcode; F, C
				{0},
				{0, 0x20, 0}, // TotalAHSLength, DataSegmentLength
				lun5,         // LUN
				{0, 0, 0, 1}, // Initiator Task Tag
				{0, 0, 0, 2}, // Target Transfer Tag
				status[0], status[1], status[2],
				zeros(12),
			},
		},
		{
			"SCSI Data-In with status", &pdu.DataIn{
				Final: true, Acknowledge: true, Underflow: true, HasStatus: true, Status: 8,
				LUN: pdu.LUNOf(5), InitiatorTaskTag: 1, TargetTransferTag: 2,
				StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303,
				DataSN: 3, BufferOffset: 4, ResidualCount: 5, DataLen: 6,
			},
			[][]byte{
				{0x25, 0xc3, 0, 8}, // opcode; F, A, U, S; Status
				{0},
				{0, 0, 6},    // TotalAHSLength, DataSegmentLength
				lun5,         // LUN
				{0, 0, 0, 1}, // Initiator Task Tag
				{0, 0, 0, 2}, // Target Transfer Tag
				status[0], status[1], status[2],
				{0, 0, 0, 3}, // DataSN
				{0, 0, 0, 4}, // Buffer Offset
				{0, 0, 0, 5}, // Residual Count
			},
		},
		{
			"SCSI Data-In overflow", &pdu.DataIn{Overflow: true},
			[][]byte{{0x25, 0x04, 0, 0}, zeros(44)}, // opcode; O
		},
		{
			"Logout Response", &pdu.LogoutResponse{
				Response: pdu.LogoutCIDNotFound, InitiatorTaskTag: 1,
				StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303, Time2Wait: 2, Time2Retain: 20,
			},
			[][]byte{
				{0x26, 0x80, 1, 0}, // opcode; 1; Response
				zeros(4),           // lengths
				zeros(8),           // reserved
				{0, 0, 0, 1},       // Initiator Task Tag
				zeros(4),           // reserved
				status[0], status[1], status[2],
				zeros(4), // reserved
				{0, 2},
				{0, 20}, // Time2Wait, Time2Retain
				zeros(4),
			},
		},
		{
			"R2T", &pdu.R2T{
				LUN: pdu.LUNOf(5), InitiatorTaskTag: 1, TargetTransferTag: 2,
				StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303,
				R2TSN: 3, BufferOffset: 4, DesiredDataTransferLength: 5,
			},
			[][]byte{
				{0x31, 0x80, 0, 0}, // opcode; 1
				zeros(4),           // lengths
				lun5,               // LUN
				{0, 0, 0, 1},       // Initiator Task Tag
				{0, 0, 0, 2},       // Target Transfer Tag
				status[0], status[1], status[2],
				{0, 0, 0, 3}, // R2TSN
				{0, 0, 0, 4}, // Buffer Offset
				{0, 0, 0, 5}, // Desired Data Transfer Length
			},
		},
		{
			"Asynchronous Message", &pdu.AsyncMessage{
				LUN: pdu.LUNOf(5), StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303,
				Event: pdu.AsyncVendorSpecific, VCode: 1,
				Parameter1: 0x0203, Parameter2: 0x0405, Parameter3: 0x0607, DataLen: 8,
			},
			[][]byte{
				{0x32, 0x80, 0, 0}, // opcode; 1
				{0},
				{0, 0, 8},                // TotalAHSLength, DataSegmentLength
				lun5,                     // LUN
				{0xff, 0xff, 0xff, 0xff}, // 0xffffffff
				zeros(4),                 // reserved
				status[0], status[1], status[2],
				{255},
				{1},
				{2, 3}, // AsyncEvent, AsyncVCode, Parameter1
				{4, 5},
				{6, 7}, // Parameter2, Parameter3
				zeros(4),
			},
		},
		{
			"Reject", &pdu.Reject{
				Reason: pdu.RejectProtocolError, StatSN: 0x101, ExpCmdSN: 0x202, MaxCmdSN: 0x303,
				DataSNOrR2TSN: 1, DataLen: 48,
			},
			[][]byte{
				{0x3f, 0x80, 4, 0}, // opcode; 1; Reason
				{0},
				{0, 0, 48},               // TotalAHSLength, DataSegmentLength
				zeros(8),                 // reserved
				{0xff, 0xff, 0xff, 0xff}, // 0xffffffff
				zeros(4),                 // reserved
				status[0], status[1], status[2],
				{0, 0, 0, 1}, // DataSN/R2TSN
				zeros(8),
			},
		},
	}
}

// TestGolden encodes each message into a dirty header, compares the bytes and
// decodes them again.
func TestGolden(t *testing.T) {
	seen := make(map[pdu.Opcode]bool)
	for _, g := range append(requests(), responses()...) {
		t.Run(g.name, func(t *testing.T) {
			seen[g.msg.Opcode()] = true
			want := bytes.Join(g.wire, nil)
			if len(want) != pdu.BHSLen {
				t.Fatalf("golden bytes: %d, want %d", len(want), pdu.BHSLen)
			}
			var h pdu.BHS
			copy(h[:], bytes.Repeat([]byte{0xff}, pdu.BHSLen))
			g.msg.Encode(&h)
			if diff := cmp.Diff(want, h[:]); diff != "" {
				t.Fatalf("Encode (-want +got):\n%s", diff)
			}
			got, err := pdu.Decode(&h)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.msg, got); diff != "" {
				t.Fatalf("Decode (-want +got):\n%s", diff)
			}
		})
	}
	for _, op := range pdu.Opcodes {
		if !seen[op] {
			t.Errorf("no golden bytes for %s", op)
		}
	}
}

// TestGoldenReserved sets every bit that is zero in all encodings of an opcode
// with all fields set, that is every reserved bit, and checks that decoding
// doesn't see them.
func TestGoldenReserved(t *testing.T) {
	for _, g := range append(requests(), responses()...) {
		t.Run(g.name, func(t *testing.T) {
			var used, h pdu.BHS
			for i := range used {
				used[i] = 0xff
			}
			used[0] = byte(g.msg.Opcode()) | 0x40
			full, err := pdu.Decode(&used)
			if err != nil {
				t.Fatal(err)
			}
			full.Encode(&used) // bits left out here are reserved
			g.msg.Encode(&h)
			for i := range h {
				h[i] |= ^used[i] &^ opcodeBits(i)
			}
			got, err := pdu.Decode(&h)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(g.msg, got); diff != "" {
				t.Fatalf("reserved bits change the message (-want +got):\n%s", diff)
			}
		})
	}
}

// opcodeBits returns the bits of byte i that select the opcode.
func opcodeBits(i int) byte {
	if i == 0 {
		return 0x3f
	}
	return 0
}
