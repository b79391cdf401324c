package pdu

import "fmt"

// Task Management Function Request, RFC 7143 §11.5
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|I| 0x02      |1| Function    | Reserved                      |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| Logical Unit Number (LUN) or Reserved                         |
//	  16| Initiator Task Tag                                            |
//	  20| Referenced Task Tag or 0xffffffff                             |
//	  24| CmdSN                                                         |
//	  28| ExpStatSN                                                     |
//	  32| RefCmdSN or Reserved                                          |
//	  36| ExpDataSN or Reserved                                         |
//	  40| Reserved                                                      |
//
// Task Management Function Response, RFC 7143 §11.6
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x22      |1| Reserved    | Response      | Reserved      |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| Additional Response Information (RFC 7144)    | Reserved      |
//	  12| Reserved                                                      |
//	  16| Initiator Task Tag                                            |
//	  20| Reserved                                                      |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| Reserved                                                      |

const functionMask = 0x7f

// TMFunction is a task management function, RFC 7143 §11.5.1 and RFC 7144.
type TMFunction uint8

// Task management functions: 1 to 8 of RFC 7143 §11.5.1, 9 to 12 of RFC 7144,
// which are to be used only when iSCSIProtocolLevel 2 was negotiated.
const (
	AbortTask        TMFunction = 1
	AbortTaskSet     TMFunction = 2
	ClearACA         TMFunction = 3
	ClearTaskSet     TMFunction = 4
	LogicalUnitReset TMFunction = 5
	TargetWarmReset  TMFunction = 6
	TargetColdReset  TMFunction = 7
	TaskReassign     TMFunction = 8
	QueryTask        TMFunction = 9
	QueryTaskSet     TMFunction = 10
	ITNexusReset     TMFunction = 11
	QueryAsyncEvent  TMFunction = 12
)

// String returns the name in the RFC, or the number of another value.
func (f TMFunction) String() string {
	switch f {
	case AbortTask:
		return "ABORT TASK"
	case AbortTaskSet:
		return "ABORT TASK SET"
	case ClearACA:
		return "CLEAR ACA"
	case ClearTaskSet:
		return "CLEAR TASK SET"
	case LogicalUnitReset:
		return "LOGICAL UNIT RESET"
	case TargetWarmReset:
		return "TARGET WARM RESET"
	case TargetColdReset:
		return "TARGET COLD RESET"
	case TaskReassign:
		return "TASK REASSIGN"
	case QueryTask:
		return "QUERY TASK"
	case QueryTaskSet:
		return "QUERY TASK SET"
	case ITNexusReset:
		return "I_T NEXUS RESET"
	case QueryAsyncEvent:
		return "QUERY ASYNCHRONOUS EVENT"
	}
	return fmt.Sprintf("TMFunction(%d)", uint8(f))
}

// TMResponse is the answer to a task management function, RFC 7143 §11.6.1.
type TMResponse uint8

// Task management responses, RFC 7143 §11.6.1; 7 is from RFC 7144.
const (
	FunctionComplete             TMResponse = 0   // Function complete
	TaskDoesNotExist             TMResponse = 1   // Task does not exist
	LUNDoesNotExist              TMResponse = 2   // LUN does not exist
	TaskStillAllegiant           TMResponse = 3   // Task still allegiant
	TaskReassignmentNotSupported TMResponse = 4   // Task allegiance reassignment not supported
	FunctionNotSupported         TMResponse = 5   // Task management function not supported
	FunctionAuthorizationFailed  TMResponse = 6   // Function authorization failed
	FunctionSucceeded            TMResponse = 7   // Function succeeded: the queried thing is there
	FunctionRejected             TMResponse = 255 // Function rejected
)

// String returns the name in the RFC, or the number of another value.
func (r TMResponse) String() string {
	switch r {
	case FunctionComplete:
		return "Function complete"
	case TaskDoesNotExist:
		return "Task does not exist"
	case LUNDoesNotExist:
		return "LUN does not exist"
	case TaskStillAllegiant:
		return "Task still allegiant"
	case TaskReassignmentNotSupported:
		return "Task allegiance reassignment not supported"
	case FunctionNotSupported:
		return "Task management function not supported"
	case FunctionAuthorizationFailed:
		return "Function authorization failed"
	case FunctionSucceeded:
		return "Function succeeded"
	case FunctionRejected:
		return "Function rejected"
	}
	return fmt.Sprintf("TMResponse(%d)", uint8(r))
}

// TaskManagementRequest is a Task Management Function Request, RFC 7143 §11.5.
// It has no data segment.
type TaskManagementRequest struct {
	Immediate         bool
	Function          TMFunction
	LUN               LUN // for functions that address a LU
	InitiatorTaskTag  uint32
	ReferencedTaskTag uint32 // ReservedTag unless the function names a task
	CmdSN, ExpStatSN  uint32
	RefCmdSN          uint32 // for AbortTask: CmdSN of the task (§11.5.5)
	ExpDataSN         uint32 // for TaskReassign (§11.5.6)
}

// Opcode returns OpTaskManagementRequest.
func (*TaskManagementRequest) Opcode() Opcode { return OpTaskManagementRequest }

// Encode writes r to h.
func (r *TaskManagementRequest) Encode(h *BHS) {
	h.start(OpTaskManagementRequest, finalFlag|byte(r.Function)&functionMask)
	h.SetImmediate(r.Immediate)
	h.SetLUN(r.LUN)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.put32(20, r.ReferencedTaskTag)
	h.SetCmdSN(r.CmdSN)
	h.SetExpStatSN(r.ExpStatSN)
	h.put32(32, r.RefCmdSN)
	h.put32(36, r.ExpDataSN)
}

// Decode reads r from h.
func (r *TaskManagementRequest) Decode(h *BHS) error {
	if err := h.expect(OpTaskManagementRequest); err != nil {
		return err
	}
	*r = TaskManagementRequest{
		Immediate:         h.Immediate(),
		Function:          TMFunction(h[1] & functionMask),
		LUN:               h.LUN(),
		InitiatorTaskTag:  h.InitiatorTaskTag(),
		ReferencedTaskTag: h.get32(20),
		CmdSN:             h.CmdSN(),
		ExpStatSN:         h.ExpStatSN(),
		RefCmdSN:          h.get32(32),
		ExpDataSN:         h.get32(36),
	}
	return nil
}

// TaskManagementResponse is a Task Management Function Response,
// RFC 7143 §11.6. It has no data segment.
type TaskManagementResponse struct {
	Response         TMResponse
	InitiatorTaskTag uint32
	// Information is the Additional Response Information of RFC 7144, zero where
	// the function gives none.
	Information                [3]byte
	StatSN, ExpCmdSN, MaxCmdSN uint32
}

// Opcode returns OpTaskManagementResponse.
func (*TaskManagementResponse) Opcode() Opcode { return OpTaskManagementResponse }

// Encode writes r to h.
func (r *TaskManagementResponse) Encode(h *BHS) {
	h.start(OpTaskManagementResponse, finalFlag)
	h[2] = byte(r.Response)
	*(*[3]byte)(h[8:]) = r.Information
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.putStatus(r.StatSN, r.ExpCmdSN, r.MaxCmdSN)
}

// Decode reads r from h.
func (r *TaskManagementResponse) Decode(h *BHS) error {
	if err := h.expect(OpTaskManagementResponse); err != nil {
		return err
	}
	*r = TaskManagementResponse{
		Response:         TMResponse(h[2]),
		InitiatorTaskTag: h.InitiatorTaskTag(),
		Information:      [3]byte(h[8:]),
		StatSN:           h.StatSN(),
		ExpCmdSN:         h.ExpCmdSN(),
		MaxCmdSN:         h.MaxCmdSN(),
	}
	return nil
}
