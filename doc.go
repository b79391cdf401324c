// Package iserd is an iSCSI target for Go programs: it serves block devices,
// given as luns.Backend, to iSCSI initiators.
//
//	srv, err := iserd.NewServer()
//	...
//	_, err = srv.AddTarget(ctx, "iqn.2026-11.com.example:scratch",
//		iserd.AnyInitiator(),
//		iserd.LUN(0, backend))
//	...
//	err = srv.ListenAndServe(ctx, ":3260")
//
// A target is closed until it is told who may log in: AnyInitiator, Allow,
// AllowFrom or CHAP. There are no globals and no configuration files; a program
// may run several servers.
package iserd
