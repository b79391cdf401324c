// Package native is the verbs provider for RDMA adapters (InfiniBand, RoCE,
// iWARP) and for the kernel's software devices, by the system's libraries
// librdmacm and libibverbs.
//
// The libraries are loaded when they are first needed, so a program with this
// package runs on machines that have none of them: Devices and NewCM then say
// what is missing. The package is built with Go and a C compiler alone; the
// structures and functions used are declared here (abi.h) as the libraries'
// symbol versions IBVERBS_1.1 and RDMACM_1.0 fix them for 64-bit machines,
// and a test compares them with the real headers. Built without cgo, or for
// other machines, it has the same functions, which say so.
package native
