// Package memory is a backend in anonymous memory: sparse, mapped, and gone
// with the process.
//
// Address space is reserved for the largest size, pages are taken when first
// written, and reading what was never written takes none. Unmap gives whole
// pages back at once.
//
// The content survives neither the process nor a power failure, and no flush
// could change that; so Flush does nothing and Info().VolatileCache is false:
// a write is as durable as it will ever be when it returns.
package memory
