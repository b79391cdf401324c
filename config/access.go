package config

import "net/netip"

// AuthType says what an initiator has to prove.
type AuthType string

// The auth types.
const (
	AuthNone       AuthType = "none"        // nothing: access is by name and address only
	AuthCHAP       AuthType = "chap"        // the initiator proves that it knows its secret
	AuthMutualCHAP AuthType = "mutual-chap" // and the target proves that it knows its own
)

// Auth is a named way in which an initiator may prove who it is.
type Auth struct {
	Source
	// Name is what targets and portal groups refer to.
	Name string `hcl:"name,label"`
	// Type is the proof asked for. With `none` an initiator is known by name and address
	// only, which both can be forged.
	Type AuthType `hcl:"type" oneof:"none|chap|mutual-chap" ref:"RFC 7143 §12.1"`
	// Algorithms are those admitted for CHAP; the first of them that the initiator
	// offers is taken.
	Algorithms []string `hcl:"algorithms,optional" default:"SHA3-256 SHA-256 SHA1 MD5" oneof:"SHA3-256|SHA-256|SHA1|MD5" ref:"RFC 7143 §12.1.3"`
	// InitiatorName is the list of initiators that may use this block; without it
	// every name is admitted.
	InitiatorName []string `hcl:"initiator_name,optional" kind:"iscsi-name" ref:"RFC 7143 §4.2.7"`
	// InitiatorAddress is the list of addresses and networks to connect from;
	// without it every address is admitted.
	InitiatorAddress []netip.Prefix `hcl:"initiator_address,optional"`
	// Users who may log in by CHAP.
	Users []User `hcl:"user,block"`
	// Mutual is what the target proves itself with.
	Mutual *Mutual `hcl:"mutual,block"`
}

// User is a CHAP user of an auth block.
type User struct {
	Source
	// Name is what the initiator sends in CHAP_N.
	Name string `hcl:"name,label"`
	// Secret is shared with the initiator. Keep it in a file: `file("/etc/iserd/secrets/NAME")`.
	Secret Secret `hcl:"secret" minlen:"12" maxlen:"255" ref:"RFC 7143 §9.2.1"`
}

// Mutual is the target's own proof in mutual CHAP.
type Mutual struct {
	Source
	// User is the target's name in CHAP_N.
	User string `hcl:"user" minlen:"1" maxlen:"255"`
	// Secret is the target's own; it must differ from the users' secrets.
	Secret Secret `hcl:"secret" minlen:"12" maxlen:"255" ref:"RFC 7143 §9.2.1"`
}

// PortalGroup is a named set of addresses to listen on.
type PortalGroup struct {
	Source
	// Name is what targets refer to.
	Name string `hcl:"name,label"`
	// Tag is the TargetPortalGroupTag; each group has its own.
	Tag int `hcl:"tag" min:"1" max:"65535" ref:"RFC 7143 §13.9"`
	// DiscoveryAuth is the name of the auth block for discovery sessions. Without it any
	// initiator may ask, and is shown the targets that it may log in to.
	DiscoveryAuth string `hcl:"discovery_auth,optional" ref:"RFC 7143 §4.2.3"`
	// Portals of the group.
	Portals []Portal `hcl:"portal,block"`
}

// Portal is one address to listen on.
type Portal struct {
	Source
	// Address is a numeric address and a port, such as `0.0.0.0:3260` or `[::]:3260`.
	Address string `hcl:"address,label"`
	// Transport is what carries iSCSI: `tcp`, `iser` for RDMA, or `auto` for both at
	// one address and port. iSER is by the adapter that has the address, or by iWARP in
	// software where none has; with `auto` an adapter that cannot be used is reported in
	// the log and is no reason to fail.
	Transport string `hcl:"transport,optional" default:"auto" oneof:"auto|tcp|iser" ref:"RFC 7143 §4.2.8, RFC 7145"`
	// ISER holds choices for connections over iSER.
	ISER PortalISER `hcl:"iser,block"`

	// Advertise is the address and port that discovery tells initiators, where it is
	// not the one that is listened on: behind a NAT or a load balancer. It may be a
	// DNS name.
	Advertise string `hcl:"advertise,optional" kind:"host-port" ref:"RFC 7143 §13.8"`
	// Redirect is where logins at this portal are sent; discovery is answered here.
	Redirect *Redirect `hcl:"redirect,block"`

	// AddrPort is Address in binary form.
	AddrPort netip.AddrPort
}

// Redirect sends logins to another portal, of this daemon or another one, once
// the initiator has proved who it is.
type Redirect struct {
	Source
	// To is the address and port to log in at. It may be a DNS name.
	To string `hcl:"to" kind:"host-port" ref:"RFC 7143 §11.13.5"`
	// Permanent: initiators may remember the new address. Otherwise they ask here
	// again next time.
	Permanent bool `hcl:"permanent,optional" default:"false"`
}

// PortalISER is what is chosen for the iSER connections of a portal.
type PortalISER struct {
	Source
	// RemoteInvalidation: use Send with Invalidate where both sides can. Soft-RoCE of
	// Linux 6.1 loses connections by it now and then.
	RemoteInvalidation bool `hcl:"remote_invalidation,optional" default:"true" ref:"RFC 7145 §7.3.2"`
	// InitialR2T: make initiators wait until their data beyond the command's own PDU is
	// read. With false the choice is theirs; libiscsi miscounts such data over iSER.
	InitialR2T bool `hcl:"initial_r2t,optional" default:"true" ref:"RFC 7143 §13.10"`
}
