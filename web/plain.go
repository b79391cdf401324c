package web

import (
	"bytes"
	"encoding/json"
	"fmt"
	"html/template"
	"net/http"
	"strings"
	"time"
)

// plain is the page for browsers without JavaScript: the tables, made here from what
// the API says.
type plain struct {
	api http.Handler
	t   *template.Template
}

// What the tables take of the API's documents.
type (
	tables struct {
		Now    time.Time
		Status struct {
			Node, Version           string
			PID                     int
			Started                 time.Time
			Logins, Refused, Faults uint64
			Warnings                []string
			Config                  struct{ Hash string }
		}
		Targets []struct {
			Name string
			LUNs []struct {
				Number         uint16
				State, Backend string
				Size           int64
				Stats          struct{ Ops map[string]uint64 }
			}
		}
		Sessions []struct {
			Initiator, Target, Peer, Transport string
			Since                              time.Time
		}
		Refusals []struct {
			Initiator, Address, Target, Reason string
			Count                              uint64
			Last                               time.Time
		}
	}
)

// ServeHTTP implements http.Handler.
func (p *plain) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	x := tables{Now: time.Now()}
	for path, into := range map[string]any{"status": &x.Status, "targets": &x.Targets, "sessions": &x.Sessions, "refusals": &x.Refusals} {
		if err := p.get(r, "/v1/"+path, into); err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
	}
	var b bytes.Buffer
	if err := p.t.Execute(&b, &x); err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	headers(w.Header(), "text/html; charset=utf-8", "no-store")
	_, _ = b.WriteTo(w) // the browser is gone, or it is its turn
}

// get asks the API as anybody would.
func (p *plain) get(r *http.Request, path string, into any) error {
	req, err := http.NewRequestWithContext(r.Context(), http.MethodGet, path, nil)
	if err != nil {
		return err
	}
	a := answer{header: http.Header{}, status: http.StatusOK}
	p.api.ServeHTTP(&a, req)
	if a.status != http.StatusOK {
		return fmt.Errorf("%s: %s", path, strings.TrimSpace(a.body.String()))
	}
	return json.Unmarshal(a.body.Bytes(), into)
}

// answer keeps what a handler answers.
type answer struct {
	header http.Header
	status int
	body   bytes.Buffer
}

// Header implements http.ResponseWriter, as all that follow.
func (a *answer) Header() http.Header         { return a.header }
func (a *answer) WriteHeader(status int)      { a.status = status }
func (a *answer) Write(b []byte) (int, error) { return a.body.Write(b) }
