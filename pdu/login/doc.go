// Package login is the login phase of iSCSI, RFC 7143 §6.3: stages, text
// negotiation (§6.2, §13), CHAP (§12.1.3) and what RFC 7145 changes of it for
// iSER.
//
// [Machine] is the target's side of one login. It works on plain buffers: a
// Login Request goes into [Machine.Step], a Login Response comes out. It does no
// I/O, starts no goroutine, keeps no time (the login timeout belongs to the
// owner of the connection) and knows no session registry: when everything is
// negotiated it answers [Admit], and whoever owns the sessions finishes with
// [Machine.Admitted] or [Machine.Refuse]. The value is thrown away at
// FullFeaturePhase.
//
// [Offer] is the small counterpart for an initiator. Both sides read one table
// of keys.
//
// A Machine is used by one goroutine at a time. It is not for the full feature
// phase: a Text Request negotiating MaxRecvDataSegmentLength there is somebody
// else's.
package login
