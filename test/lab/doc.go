// Package lab boots user-mode Linux guests, so that tests can drive a target
// with the Linux kernel's own iSCSI initiator on a machine whose kernel has
// none. A guest is a process: it needs root for its tap device and for
// building its root directory once, but neither KVM nor kernel modules.
//
// The package is for this repository's tests only. Its pieces:
//
//   - Gate, NeedTools and NeedRoot decide whether a test runs, is skipped or,
//     under CI, fails;
//   - Net is a network namespace with one tap device, the wire between the
//     host and one guest;
//   - Start and Boot run a shell script in a guest;
//   - package target, below this one, starts the daemon under test.
package lab
