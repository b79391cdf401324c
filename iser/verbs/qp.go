package verbs

// CQ is a completion queue with a file descriptor to wait on. Poll and Arm
// are called by one goroutine at a time, the CQ's owner.
type CQ interface {
	// Poll writes completions to wc, without waiting, and returns how many.
	// An error means that the CQ is lost and with it all its queue pairs.
	Poll(wc []WC) (int, error)
	// Arm consumes what made Fd readable and asks for one notification: Fd
	// becomes readable when the next completion comes (or, for a software
	// provider, when Poll has something to do). Completions that came before
	// Arm do not notify: Arm, Poll, and wait only if that Poll found nothing.
	Arm() error
	// Fd is the descriptor to wait on for reading after Arm. It is the CQ's:
	// not to be read or closed.
	Fd() int
	// Depth is how many completions the CQ can hold.
	Depth() int
	// Close frees the CQ. No queue pair may be on it any more.
	Close() error
}

// QPConfig is what to make a queue pair of.
type QPConfig struct {
	SendCQ CQ // of the Conn's device
	RecvCQ CQ // may be the same
	QPCap
}

// QPCap are the sizes of a queue pair.
type QPCap struct {
	MaxSendWR  int // work requests of the send queue
	MaxRecvWR  int // work requests of the receive queue
	MaxSendSGE int // SGEs of a send queue's work request
	MaxRecvSGE int // SGEs of a receive
	MaxInline  int // bytes that SendInline may carry
}

// QP is a reliable connected queue pair.
//
// Every work request completes exactly once: by a WC when it failed, was
// flushed or is a receive or asked for SendSignaled; else silently, with the
// next completion of a later work request of its queue. The memory of a work
// request belongs to the device until then. After ToError, or when the
// connection breaks, all work requests that have not completed do so with
// WCFlushed, signaled or not; so do sends that are posted later.
type QP interface {
	// Num is the queue pair's number, as in WC.QPN. Unique on its device among
	// the queue pairs that exist.
	Num() uint32
	// Cap are the sizes granted: at least those asked for.
	Cap() QPCap
	// PostSend appends work requests to the send queue, in order, and returns
	// how many it took; the error, when not all, says why the next one was
	// refused. In the error state it takes work requests and flushes them.
	PostSend(wr []SendWR) (int, error)
	// PostRecv appends receives, as PostSend does. Receives posted in the error
	// state may stay where they are until Conn.Close, without a completion.
	PostRecv(wr []RecvWR) (int, error)
	// Bind appends a work request that binds w to the bytes mem of region mr,
	// with remote access acc for this connection, and returns the RKey that
	// is valid when the next send of this queue is. mr must have AccessBind,
	// and AccessLocalWrite when acc has AccessRemoteWrite. A window is bound
	// again only after it was invalidated.
	Bind(w Window, mr MR, mem []byte, acc Access, id uint64, flags SendFlags) (rkey uint32, err error)
	// ToError moves the queue pair to the error state: nothing is sent or
	// received any more, all work requests are flushed. Any goroutine.
	ToError() error
}

// Op is what a work request does, or did.
type Op uint8

// Operations. OpRecv is only in completions.
const (
	OpSend     Op = iota + 1
	OpSendInv     // Send with Invalidate of the peer's InvKey (RFC 5040 5.3)
	OpWrite       // RDMA Write
	OpRead        // RDMA Read
	OpLocalInv    // invalidate InvKey of a window of ours
	OpBind        // see QP.Bind
	OpRecv
)

// SendFlags modify a work request of the send queue. The values are those of
// ibv_send_flags.
type SendFlags uint8

// Flags of work requests.
const (
	SendFence     SendFlags = 1 << 0 // start after earlier RDMA Reads have completed
	SendSignaled  SendFlags = 1 << 1 // success makes a WC as well
	SendSolicited SendFlags = 1 << 2 // the peer's receive is a solicited event
	SendInline    SendFlags = 1 << 3 // data is taken by PostSend; LKeys do not matter
)

// SGE is a piece of registered memory (IBTA 10.8.2), laid out as ibv_sge.
type SGE struct {
	Addr uint64 // see Addr
	Len  uint32
	LKey uint32
}

// SendWR is a work request of the send queue.
type SendWR struct {
	ID     uint64
	SG     []SGE // borrowed for the call; the memory it names until completion
	RAddr  uint64
	RKey   uint32 // of OpWrite and OpRead
	InvKey uint32 // of OpSendInv and OpLocalInv
	Op     Op
	Flags  SendFlags
}

// RecvWR is a receive: the memory that one message of the peer goes to.
type RecvWR struct {
	ID uint64
	SG []SGE // borrowed for the call; the memory it names until completion
}

// WC is a work completion (IBTA 11.4.2.1). With a Status other than WCSuccess
// only ID, Status, QPN and VendorErr mean something.
type WC struct {
	ID        uint64
	QPN       uint32
	Len       uint32 // bytes received (OpRecv), or read (OpRead)
	InvKey    uint32 // with WCWithInv: the RKey of ours that was invalidated; 0 when the device does not say
	VendorErr uint32
	Status    Status
	Op        Op
	Flags     WCFlags
}

// WCFlags qualify a completion.
type WCFlags uint8

// WCWithInv means: the message received was a Send with Invalidate.
const WCWithInv WCFlags = 1 << 0

// Status of a completion (IBTA 10.10.3). The values are those of
// ibv_wc_status.
type Status uint8

// Completion statuses.
const (
	WCSuccess         Status = 0
	WCLocalLength     Status = 1 // receive too short, or message too long
	WCLocalQPOp       Status = 2
	WCLocalEEC        Status = 3
	WCLocalProtection Status = 4 // an SGE is not in its region
	WCFlushed         Status = 5 // not done: the QP is in the error state
	WCMWBind          Status = 6
	WCBadResponse     Status = 7
	WCLocalAccess     Status = 8
	WCRemoteInvalid   Status = 9  // the peer could not take the request
	WCRemoteAccess    Status = 10 // the peer's region does not allow it
	WCRemoteOp        Status = 11
	WCRetryExceeded   Status = 12 // the peer does not answer
	WCRNRExceeded     Status = 13 // the peer had no receive posted
	WCLocalRDD        Status = 14
	WCRemoteInvalidRD Status = 15
	WCRemoteAborted   Status = 16
	WCInvalidEEC      Status = 17
	WCInvalidEECState Status = 18
	WCFatal           Status = 19
	WCTimeout         Status = 20
	WCGeneral         Status = 21
)
