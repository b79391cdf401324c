package iser

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strconv"

	"github.com/iserd/iserd/initiator"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/iser/verbs/native"
	"github.com/iserd/iserd/iser/verbs/softiwarp"
)

// DialAny is Dial to "host:port" by an adapter of the system if one leads there,
// else by iWARP in software.
func DialAny(ctx context.Context, addr string, o Options) (*initiator.Conn, error) {
	c, err := OpenAny(ctx, addr, o)
	if err != nil {
		return nil, err
	}
	return c.stream(&o)
}

// OpenAny is Open to "host:port" by an adapter of the system if one leads there,
// else by iWARP in software.
func OpenAny(ctx context.Context, addr string, o Options) (*Conn, error) {
	host, port, err := net.SplitHostPort(addr)
	if err != nil {
		return nil, fmt.Errorf("initiator/iser: %w", err)
	}
	ips, err := net.DefaultResolver.LookupNetIP(ctx, "ip", host)
	if err != nil {
		return nil, fmt.Errorf("initiator/iser: %w", err)
	}
	n, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return nil, fmt.Errorf("initiator/iser: port %q: %w", port, err)
	}
	at := netip.AddrPortFrom(ips[0].Unmap(), uint16(n))
	if native.Present() {
		adapters := native.New()
		if _, err := adapters.Devices(); err == nil {
			c, err := Open(ctx, adapters, at, o)
			if err == nil || !errors.Is(err, verbs.ErrNoDevice) {
				return c, err
			}
		}
	}
	return Open(ctx, softiwarp.New(softiwarp.Config{}), at, o)
}
