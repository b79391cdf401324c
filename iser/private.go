package iser

// Private data of the connection manager's REQ and REP: one byte of flags and
// three reserved ones, IBTA Annex A12 and what all known peers do.
const (
	privateLen       = 4
	noZeroBasedVA    = 0x80 // zero-based virtual addresses are not supported, or not used
	noSendInvalidate = 0x40 // Send with Invalidate is not accepted, or not used
)

// acceptsInvalidate reports whether the private data of a REQ allows Send with
// Invalidate. On InfiniBand and RoCE, data that was never given reads as zeros.
// Every initiator that gives any sets noZeroBasedVA, so that bit tells that the
// rest means something.
func acceptsInvalidate(req []byte) bool {
	return len(req) >= privateLen && req[0]&noZeroBasedVA != 0 && req[0]&noSendInvalidate == 0
}

// replyPrivate is the private data of the REP. It says that Send with Invalidate
// is used only when it is.
func replyPrivate(invalidate bool) []byte {
	flags := byte(noZeroBasedVA | noSendInvalidate)
	if invalidate {
		flags = noZeroBasedVA
	}
	return []byte{flags, 0, 0, 0}
}

// RequestPrivate is the private data of an initiator's REQ.
func RequestPrivate(invalidate bool) []byte { return replyPrivate(invalidate) }

// ReplyInvalidates reports whether the private data of a REP says that the target
// uses Send with Invalidate.
func ReplyInvalidates(rep []byte) bool { return acceptsInvalidate(rep) }
