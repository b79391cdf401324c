package fdio

import (
	"sync"
	"unsafe"
)

// bounceSize is the size of a bounce buffer. It is a multiple of every block
// size that a backend accepts.
const bounceSize = 256 << 10

// bouncePool holds aligned buffers for direct I/O on memory that is not.
type bouncePool struct {
	align int
	pool  sync.Pool
}

type bounceBuffer struct{ b []byte }

// get returns a buffer of bounceSize bytes with undefined content; the caller
// gives it back with put.
func (p *bouncePool) get() *bounceBuffer {
	if buf, ok := p.pool.Get().(*bounceBuffer); ok {
		return buf
	}
	align := max(p.align, 1)
	b := make([]byte, bounceSize+align)
	skip := (align - int(uintptr(unsafe.Pointer(&b[0]))%uintptr(align))) % align
	return &bounceBuffer{b[skip : skip+bounceSize]}
}

func (p *bouncePool) put(buf *bounceBuffer) { p.pool.Put(buf) }

// aligned reports whether p can be handed to the kernel as it is.
func (d *Device) aligned(p []byte) bool {
	if !d.cfg.Direct || len(p) == 0 {
		return true
	}
	return uintptr(unsafe.Pointer(&p[0]))%uintptr(d.cfg.MemoryAlign) == 0
}

func (d *Device) readBounced(p []byte, off int64) error {
	buf := d.bounce.get()
	defer d.bounce.put(buf)
	for len(p) > 0 {
		part := buf.b[:min(len(p), len(buf.b))]
		if err := d.readFull(part, off); err != nil {
			return err
		}
		n := copy(p, part)
		p, off = p[n:], off+int64(n)
	}
	return nil
}

func (d *Device) writeBounced(fd int, p []byte, off int64, flags int) error {
	buf := d.bounce.get()
	defer d.bounce.put(buf)
	for len(p) > 0 {
		n := copy(buf.b, p)
		if err := d.writeFull(fd, buf.b[:n], off, flags); err != nil {
			return err
		}
		p, off = p[n:], off+int64(n)
	}
	return nil
}
