// Package api is the administrator's interface of a running daemon: HTTP and
// JSON on a unix socket, and the client of it. openapi.json describes it.
//
// Requests that make something are "create or get": a second one that asks for
// the same does nothing, one that asks for something else under the same name
// gets 409. Requests are serialized by the daemon, so that two clients that make
// the same target both succeed and there is one.
//
// It is not the interface of the data path, and knows nothing of iSCSI.
package api
