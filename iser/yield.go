package iser

import _ "unsafe" // for linkname

// goyield lets the goroutines that wait for this processor (P) run first. It is
// runtime.Gosched but for waking another thread to look for work: there is none that
// its own wakers have not woken a thread for. Go keeps it for those who link to it
// (go.dev/issue/67401).
//
//go:linkname goyield runtime.goyield
func goyield()
