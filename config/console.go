package config

import (
	"net"
	"net/netip"
	"strings"
)

// DefaultConsole is where the console listens when nothing else is said.
const DefaultConsole = "unix:/run/iserd/console.sock"

// Console is how the daemon is looked at and operated.
type Console struct {
	Source
	// Listen is `unix:` and the absolute path of the socket, which gets mode 0660,
	// or `off`. Whoever may write to the socket is an administrator.
	Listen string `hcl:"listen,optional" default:"unix:/run/iserd/console.sock"`
	// Group is the group of the host that owns the socket; without it the socket
	// has that of the daemon.
	Group string `hcl:"group,optional" maxlen:"64"`
	// FaultInjection: let an administrator make actors panic, to see what
	// supervision does. A change is in force after a restart.
	FaultInjection bool `hcl:"fault_injection,optional" default:"false"`
	// Capture: let an administrator record what goes over connections, which has
	// the data of disks in it.
	Capture bool `hcl:"capture,optional" default:"true"`
	// Remote is the same over TCP, with mutual TLS.
	Remote *Remote `hcl:"remote,block"`
}

// Remote is the console over TCP. Clients must have a certificate.
type Remote struct {
	Source
	// Listen is a numeric address and a port.
	Listen string `hcl:"listen"`
	// Certificate is the file of the server's certificate chain, PEM.
	Certificate string `hcl:"certificate" kind:"path"`
	// Key is the file of the server's private key, PEM.
	Key string `hcl:"key" kind:"path"`
	// ClientCA is the file of the authorities, PEM, one of which must have signed the
	// client's certificate.
	ClientCA string `hcl:"client_ca" kind:"path"`
}

// HTTP is what may be read without being an administrator: the web page with its
// data, metrics and health. Nothing can be changed there without the secret.
type HTTP struct {
	Source
	// Listen is a numeric loopback address and a port: what is told is not for
	// everybody. For other hosts put a proxy with authentication before it.
	Listen string `hcl:"listen"`
	// Secret is the token of operators: who shows it sees what a reload would change, and
	// may reload, take LUNs offline and online, and end sessions. Without it the page
	// only shows. Keep it in a file: `file("/etc/iserd/secrets/http")`.
	Secret Secret `hcl:"secret,optional" minlen:"20" maxlen:"255"`
	// Names are the host names under which browsers and proxies ask, besides `localhost`
	// and addresses; under others nothing is told, so that no web site can have its own
	// name point here and read along.
	Names []string `hcl:"names,optional"`
}

// SocketPath is the path of a unix socket address, "" for others.
func SocketPath(listen string) string {
	path, ok := strings.CutPrefix(listen, "unix:")
	if !ok {
		return ""
	}
	return path
}

func (k *checker) console() {
	c := &k.Console
	if path := SocketPath(c.Listen); c.good("listen") && c.Listen != "off" && (!strings.HasPrefix(path, "/") || len(path) > 107) {
		k.errorf(c.At("listen"), "Invalid console address",
			"The console listens on \"unix:/PATH\", with an absolute path of up to 107 bytes, or is \"off\"; this is %q.", c.Listen)
	}
	if r := c.Remote; r != nil && r.good("listen") {
		k.listenAddress(r.Listen, r, func(netip.AddrPort) bool { return true }, "")
	}
	if h := k.HTTP; h != nil && h.good("listen") {
		k.listenAddress(h.Listen, h, func(a netip.AddrPort) bool { return a.Addr().IsLoopback() },
			"Only a loopback address may be given: there is neither encryption nor a login.")
	}
}

func (k *checker) listenAddress(text string, b sourced, ok func(netip.AddrPort) bool, why string) {
	at := b.source().At("listen")
	a, err := netip.ParseAddrPort(text)
	switch {
	case err != nil:
		k.errorf(at, "Invalid address", "Write a numeric address and a port, such as %q; this is %q.", net.JoinHostPort("127.0.0.1", "9260"), text)
	case !ok(a):
		k.errorf(at, "Address not allowed", "%s This is %q.", why, text)
	}
}
