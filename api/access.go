package api

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"net/http"
)

// TokenHeader is the request header with the token of an operator. It is not
// Authorization, which belongs to the proxy that may stand before the listener.
const TokenHeader = "Iserd-Token"

// Scope is how much of the interface a listener offers.
type Scope uint8

const (
	// ReadOnly means: what changes nothing, but neither the configuration nor profiles.
	ReadOnly Scope = iota
	// Operator means: that, what a reload would change, and what is safe to do from a
	// web page: reload, LUNs offline and online, ending a session.
	Operator
	// Admin means: everything.
	Admin
	// AdminLocal means: everything, and profiles of the process.
	AdminLocal
)

// String returns the scope as Access has it.
func (s Scope) String() string {
	switch s {
	case ReadOnly:
		return "read"
	case Operator:
		return "operate"
	default:
		return "admin"
	}
}

// Access is what a client may do with what it has shown.
type Access struct {
	Scope string `json:"scope"` // read, operate or admin
	Token bool   `json:"token"` // a token makes it operate
}

func (s *server) access(context.Context) (*Access, error) {
	return &Access{Scope: s.scope.String(), Token: s.token}, nil
}

// NewTokenHandler returns the interface of d: ReadOnly for everybody, and Operator
// for who shows token in TokenHeader. With an empty token nobody is an operator.
func NewTokenHandler(d Daemon, token string) http.Handler {
	h := &tokenHandler{
		anybody: newServer(d, ReadOnly), operator: newServer(d, Operator), all: newServer(d, Admin),
		token: sha256.Sum256([]byte(token)), none: token == "",
	}
	h.anybody.token, h.operator.token = !h.none, !h.none
	return h
}

type tokenHandler struct {
	anybody, operator, all *server
	token                  [sha256.Size]byte
	none                   bool
}

// ServeHTTP implements http.Handler.
func (h *tokenHandler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	token := r.Header.Get(TokenHeader)
	switch {
	case token != "" && !h.right(token):
		answer(w, 0, nil, problemf(ErrForbidden, "the token is wrong: it is the secret of the http block of the configuration"))
	case token != "" && h.operator.has(r):
		h.operator.mux.ServeHTTP(w, r)
	case h.anybody.has(r) || !h.all.has(r):
		h.anybody.mux.ServeHTTP(w, r)
	case h.operator.has(r) && !h.none:
		answer(w, 0, nil, problemf(ErrForbidden, "this needs a token: send the header %s with the secret of the http block of the configuration", TokenHeader))
	default:
		answer(w, 0, nil, problemf(ErrForbidden, "not offered here: use the console (iserd help), or give the http block a secret for what operators may do"))
	}
}

// right compares digests, in a time that does not depend on what is the same.
func (h *tokenHandler) right(token string) bool {
	sum := sha256.Sum256([]byte(token))
	return !h.none && subtle.ConstantTimeCompare(sum[:], h.token[:]) == 1
}

// has reports whether r is a request of the interface, whatever its answer.
func (s *server) has(r *http.Request) bool {
	_, pattern := s.mux.Handler(r)
	return pattern != ""
}
