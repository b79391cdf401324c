package verbs

import (
	"fmt"
	"syscall"
	"unsafe"
)

// Map returns size bytes of zeroed memory that is not Go's, for registering.
// Its pages are taken when they are touched or registered. Owned by the
// caller, to be given back with Unmap.
func Map(size int) ([]byte, error) {
	mem, err := syscall.Mmap(-1, 0, size, syscall.PROT_READ|syscall.PROT_WRITE,
		syscall.MAP_ANON|syscall.MAP_PRIVATE)
	if err != nil {
		return nil, fmt.Errorf("verbs: map %d bytes: %w", size, err)
	}
	return mem, nil
}

// Unmap takes memory returned by Map, in full length.
func Unmap(mem []byte) error { return syscall.Munmap(mem) }

// Addr is the address of mem's first byte, for SGEs and for the peer. 0 when
// mem is empty.
func Addr(mem []byte) uint64 {
	return uint64(uintptr(unsafe.Pointer(unsafe.SliceData(mem))))
}
