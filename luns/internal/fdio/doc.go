// Package fdio does the I/O that the file and block backends share: whole
// transfers on a descriptor, buffered or direct, with durable writes, flushes
// whose failure is never forgotten, and attempts that do not wait.
package fdio
