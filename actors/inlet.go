package actors

import (
	"context"
	"net"
	"net/netip"
	"sync"
	"time"

	"github.com/iserd/iserd/iser"
	"github.com/iserd/iserd/iser/verbs"
	"github.com/iserd/iserd/tcp"
)

// ISEROptions are choices for the iSER connections of a portal. The zero value
// is good.
type ISEROptions struct {
	// NoRemoteInvalidation has the target never use Send with Invalidate, for
	// initiators and adapters that cannot cope with it.
	NoRemoteInvalidation bool
	// NoInitialR2T lets initiators send unsolicited data over iSER beyond the
	// command's own PDU (RFC 7143 §13.10). libiscsi's iSER miscounts it.
	NoInitialR2T bool
}

// ISER sets choices for the iSER connections of the portal.
func ISER(o ISEROptions) PortalOption { return func(p *portal) { p.iser = o } }

// SoftISER has a TCP portal serve iSER too, by prov, iWARP in software: it takes
// the connections that begin with an MPA request (RFC 5044 §7.1). Nothing of it is
// started before the first one comes. The node borrows prov until Shutdown.
func SoftISER(prov verbs.Provider) PortalOption {
	return func(p *portal) { p.inlet = &inlet{portal: p, prov: prov} }
}

// inlet takes the iSER connections that come in at a TCP portal: those that
// begin with an MPA request. The first of them starts iWARP in software, so that
// a portal where none comes has no thread and no memory for it.
type inlet struct {
	n      *Node
	portal *portal
	prov   verbs.Provider
	addr   netip.AddrPort

	mu       sync.Mutex     // guards what follows
	listener *iser.Listener // nil before the first connection
	closed   bool
	failing  bool // and it was logged
}

// startTime bounds how long actors of the node may take to start or to end.
const startTime = 10 * time.Second

// take makes sock, which began with first, an iSER connection. It takes sock.
// It may wait.
func (i *inlet) take(sock tcp.Socket, first []byte) {
	defer sock.Close()
	l, err := i.open()
	if err == nil {
		err = l.Hand(sock, first)
	}
	i.report(sock, err)
}

// open returns the listener that connections are handed to.
func (i *inlet) open() (*iser.Listener, error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	if i.closed {
		return nil, net.ErrClosed
	}
	if i.listener != nil {
		return i.listener, nil
	}
	ctx, cancel := context.WithTimeout(context.Background(), startTime)
	defer cancel()
	l, err := i.n.listenISER(ctx, i.prov, listenRDMA{addr: i.addr, portal: i.portal, inlet: true})
	if err != nil {
		return nil, err
	}
	i.listener = l
	i.n.log.Info("first iSER connection: iWARP in software is started", "address", i.addr.String())
	return l, nil
}

// report logs the first of errors in a row; an initiator that is not served
// comes again and again.
func (i *inlet) report(sock tcp.Socket, err error) {
	i.mu.Lock()
	defer i.mu.Unlock()
	news := err != nil && !i.failing && !i.closed
	i.failing = err != nil
	if news {
		i.n.log.Warn("cannot take an iSER connection", "address", i.addr.String(), "peer", sock.RemoteAddr().String(), "reason", err)
	}
}

// close ends the inlet; connections stay.
func (i *inlet) close() {
	i.mu.Lock()
	defer i.mu.Unlock()
	i.closed = true
	if i.listener != nil {
		i.listener.Close()
	}
}
