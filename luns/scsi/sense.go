package scsi

import (
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"math"

	"github.com/iserd/iserd/luns"
)

// maxSense is the longest sense data made here: descriptor format with an
// information, a command-specific information and a sense key specific
// descriptor, SPC-5 4.4.2.
const maxSense = 8 + 12 + 12 + 8

// fixedSense is the length of fixed format sense data, SPC-5 4.4.3.
const fixedSense = 18

// Error is a failed command together with the cause inside the target. It is
// what Config.Report gets to see; the initiator gets the sense data.
type Error struct {
	Op  string // the command's name in the standard
	Key SenseKey
	ASC ASC
	LBA uint64 // the first logical block of the command
	Err error  // from the backend
}

// Error implements error.
func (e *Error) Error() string {
	return fmt.Sprintf("%s at LBA %d: %v %v: %v", e.Op, e.LBA, e.Key, e.ASC, e.Err)
}

// Unwrap returns the backend's error.
func (e *Error) Unwrap() error { return e.Err }

// senseInfo is the content of sense data before its format is chosen.
type senseInfo struct {
	key   SenseKey
	asc   ASC
	valid bool   // info is meaningful
	info  uint64 // INFORMATION field
	csi   uint32 // COMMAND-SPECIFIC INFORMATION field; 0 is none
	sksv  bool   // sks is meaningful
	sks   [3]byte
}

// fieldPointer returns the sense key specific bytes that point at a field in
// the CDB (inCDB true) or in the parameter list, SPC-5 4.4.2.4.2. A bit below 0
// means the whole byte.
func fieldPointer(where fieldPlace, offset, bit int) (sks [3]byte) {
	sks[0] = 0x80 // SKSV
	if where == inCDB {
		sks[0] |= 0x40 // C/D
	}
	if bit >= 0 {
		sks[0] |= 0x08 | byte(bit&7) // BPV, BIT POINTER
	}
	binary.BigEndian.PutUint16(sks[1:], uint16(min(offset, math.MaxUint16)))
	return sks
}

// fieldPlace says what a field pointer refers to.
type fieldPlace uint8

const (
	inParameterList fieldPlace = iota
	inCDB
)

// append writes s in descriptor (SPC-5 4.4.2) or fixed format (4.4.3).
func (s *senseInfo) append(dst []byte, descriptor bool) []byte {
	if descriptor {
		return s.appendDescriptor(dst)
	}
	return s.appendFixed(dst)
}

func (s *senseInfo) appendFixed(dst []byte) []byte {
	var b [fixedSense]byte
	b[0] = 0x70
	b[2] = byte(s.key)
	// An INFORMATION value of more than four bytes cannot be reported here:
	// the VALID bit is set to zero then.
	if s.valid && s.info <= math.MaxUint32 {
		b[0] |= 0x80
		binary.BigEndian.PutUint32(b[3:], uint32(s.info))
	}
	b[7] = fixedSense - 8
	binary.BigEndian.PutUint32(b[8:], s.csi)
	binary.BigEndian.PutUint16(b[12:], uint16(s.asc))
	if s.sksv {
		copy(b[15:], s.sks[:])
	}
	return append(dst, b[:]...)
}

func (s *senseInfo) appendDescriptor(dst []byte) []byte {
	n := 0
	if s.valid {
		n += 12
	}
	if s.csi != 0 {
		n += 12
	}
	if s.sksv {
		n += 8
	}
	dst = append(dst, 0x72, byte(s.key), s.asc.Code(), s.asc.Qualifier(), 0, 0, 0, byte(n))
	if s.valid {
		dst = append(dst, 0x00, 0x0A, 0x80, 0)
		dst = binary.BigEndian.AppendUint64(dst, s.info)
	}
	if s.csi != 0 {
		dst = append(dst, 0x01, 0x0A, 0, 0)
		dst = binary.BigEndian.AppendUint32(dst, s.csi)
		dst = append(dst, 0, 0, 0, 0)
	}
	if s.sksv {
		dst = append(dst, 0x02, 0x06, 0, 0, s.sks[0], s.sks[1], s.sks[2], 0)
	}
	return dst
}

// access says what a backend call was for: it decides the sense of ErrMedium.
type access uint8

const (
	reading access = iota
	writing
)

// backendSense maps an error of a backend to a status and sense. It is the
// only place that knows both worlds.
func backendSense(err error, a access) (Status, SenseKey, ASC) {
	switch {
	case errors.Is(err, luns.ErrTransient), errors.Is(err, context.Canceled),
		errors.Is(err, context.DeadlineExceeded):
		// Nothing is lost and the same command may succeed: SAM-6 5.3.1.
		return Busy, NoSense, NoAdditionalSense
	case errors.Is(err, luns.ErrNoSpace):
		return CheckCondition, DataProtect, SpaceAllocationFailed
	case errors.Is(err, luns.ErrReadOnly):
		return CheckCondition, DataProtect, WriteProtected
	case errors.Is(err, luns.ErrOffline):
		return CheckCondition, IllegalRequest, LUNotSupported
	case errors.Is(err, luns.ErrMedium) && a == writing:
		return CheckCondition, MediumError, WriteErr
	case errors.Is(err, luns.ErrMedium):
		return CheckCondition, MediumError, UnrecoveredReadError
	default:
		return CheckCondition, HardwareError, InternalTargetFailure
	}
}
