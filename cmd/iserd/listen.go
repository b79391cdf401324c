package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"syscall"
)

// listen binds one portal. Each address family is bound by itself, so that
// 0.0.0.0 and [::] can stand side by side.
func listen(ctx context.Context, at netip.AddrPort) (net.Listener, error) {
	network := "tcp6"
	if at.Addr().Is4() {
		network = "tcp4"
	}
	var lc net.ListenConfig
	l, err := lc.Listen(ctx, network, at.String())
	if err == nil {
		return l, nil
	}
	switch {
	case errors.Is(err, syscall.EADDRINUSE):
		return nil, &exitError{exitBusy, fmt.Errorf("%s is in use by another program: another iserd, tgtd or the kernel's own target?\n"+
			"  ss -ltnp 'sport = :%d'   shows which; stop it, or listen on another port", at, at.Port())}
	case errors.Is(err, syscall.EADDRNOTAVAIL):
		return nil, &exitError{exitRuntime, fmt.Errorf("%s is not an address of this host: \"ip address\" shows those that are", at.Addr())}
	case errors.Is(err, syscall.EACCES):
		return nil, &exitError{exitRuntime, fmt.Errorf("%s: no permission to listen on a port below 1024: take another port, or give the program CAP_NET_BIND_SERVICE", at)}
	default:
		return nil, err
	}
}
