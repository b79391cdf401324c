// Package vmlab boots whole Linux kernels in QEMU, without KVM, for tests that
// need what the user-mode Linux of package lab does not have: RDMA (soft-RoCE),
// the kernel's iSER initiator, and other kernel versions. A guest takes about
// ten seconds to its script, and everything in it is ten to twenty times
// slower than outside: tests here prove that things work, not how fast.
//
// The root file system is package lab's with the RDMA tools added; both are
// built once, from the package sources that this machine's apt uses, and kept
// in lab.CacheDir.
//
// The package is for this repository's tests only.
package vmlab
