package api

import (
	"context"
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// noting remembers what was done to it.
type noting struct {
	fixed
	did *[]string
}

func (n noting) note(what string) error { *n.did = append(*n.did, what); return nil }

func (n noting) SetLUNOffline(_ context.Context, target string, lun uint16, offline bool) error {
	if lun != 3 {
		return problemf(ErrNotFound, "no LUN %d", lun)
	}
	if offline {
		return n.note("offline " + target)
	}
	return n.note("online " + target)
}

func (n noting) Logout(_ context.Context, _ uint16, force bool) error {
	if force {
		return n.note("drop")
	}
	return n.note("logout")
}

func (n noting) DeleteTarget(context.Context, string) error { return n.note("delete") }
func (n noting) ConfigText(context.Context) ([]byte, error) { return nil, n.note("config") }
func (n noting) Plan(context.Context) (*Plan, error)        { return &Plan{}, n.note("plan") }
func (n noting) Reload(context.Context) (*Plan, error)      { return &Plan{}, n.note("reload") }

// TestToken: what an operator may do needs the token and nothing else is to be had
// by it.
func TestToken(t *testing.T) {
	const token = "a-token-of-some-length"
	for _, x := range []struct {
		name, method, path, token, configured string
		status                                int
		did                                   string
	}{
		{"reading needs none", "GET", "/v1/targets", "", token, 200, ""},
		{"reading with it", "GET", "/v1/targets", token, token, 200, ""},
		{"reading with a wrong one", "GET", "/v1/targets", "wrong", token, 403, ""},
		{"offline without", "POST", "/v1/targets/iqn.a:b/luns/3/offline", "", token, 403, ""},
		{"offline with a wrong one", "POST", "/v1/targets/iqn.a:b/luns/3/offline", token + "x", token, 403, ""},
		{"offline", "POST", "/v1/targets/iqn.a:b/luns/3/offline", token, token, 204, "offline iqn.a:b"},
		{"offline of what is not there", "POST", "/v1/targets/iqn.a:b/luns/4/offline", token, token, 404, ""},
		{"online", "POST", "/v1/targets/iqn.a%3Ab/luns/3/online", token, token, 204, "online iqn.a:b"},
		{"logout without", "DELETE", "/v1/sessions/1", "", token, 403, ""},
		{"logout", "DELETE", "/v1/sessions/1", token, token, 204, "logout"},
		{"drop", "DELETE", "/v1/sessions/1?force=true", token, token, 204, "drop"},
		{"plan without", "GET", "/v1/config/plan", "", token, 403, ""},
		{"plan", "GET", "/v1/config/plan", token, token, 200, "plan"},
		{"reload", "POST", "/v1/config/reload", token, token, 200, "reload"},
		{"delete is for administrators", "DELETE", "/v1/targets/iqn.a:b", token, token, 403, ""},
		{"the configuration too", "GET", "/v1/config", token, token, 403, ""},
		{"no token configured, none shown", "POST", "/v1/config/reload", "", "", 403, ""},
		{"no token configured, one shown", "POST", "/v1/config/reload", token, "", 403, ""},
		{"what is not there", "GET", "/v1/nothing", token, token, 404, ""},
	} {
		t.Run(x.name, func(t *testing.T) {
			var did []string
			h := NewTokenHandler(noting{did: &did}, x.configured)
			r := httptest.NewRequest(x.method, x.path, nil)
			if x.token != "" {
				r.Header.Set(TokenHeader, x.token)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			if w.Code != x.status || strings.Join(did, ",") != x.did {
				t.Errorf("%d %q, want %d %q: %s", w.Code, did, x.status, x.did, w.Body)
			}
			if strings.Contains(w.Body.String(), token) {
				t.Error("the answer has the token")
			}
		})
	}
}

// TestAccess: a client is told what it may do.
func TestAccess(t *testing.T) {
	for _, x := range []struct {
		h     http.Handler
		token string
		want  Access
	}{
		{NewTokenHandler(fixed{}, ""), "", Access{"read", false}},
		{NewTokenHandler(fixed{}, "secret"), "", Access{"read", true}},
		{NewTokenHandler(fixed{}, "secret"), "secret", Access{"operate", true}},
		{NewHandler(fixed{}, Admin), "", Access{"admin", false}},
		{NewHandler(fixed{}, AdminLocal), "", Access{"admin", false}},
	} {
		r := httptest.NewRequest("GET", "/v1/access", nil)
		r.Header.Set(TokenHeader, x.token)
		w := httptest.NewRecorder()
		x.h.ServeHTTP(w, r)
		var got Access
		if err := json.Unmarshal(w.Body.Bytes(), &got); err != nil || got != x.want {
			t.Errorf("%+v %v, want %+v", got, err, x.want)
		}
	}
}

// TestDescribedAsTheOperators: what is described to take the token takes it.
func TestDescribedAsTheOperators(t *testing.T) {
	var described, served []string
	for path, ops := range description(t).Paths {
		for method, raw := range ops {
			var op struct {
				Security []map[string][]string `json:"security"`
			}
			if err := json.Unmarshal(raw, &op); err != nil {
				t.Fatal(err)
			}
			if len(op.Security) > 0 {
				described = append(described, strings.ToUpper(method)+" "+path)
			}
		}
	}
	anybody := newServer(fixed{}, ReadOnly).routes
	for _, r := range newServer(fixed{}, Operator).routes {
		if !slices.Contains(anybody, r) {
			served = append(served, r)
		}
	}
	slices.Sort(described)
	slices.Sort(served)
	if d := cmp.Diff(served, described); d != "" {
		t.Error("served (-) and described (+):\n", d)
	}
}

// TestGuard: pages of other sites neither change nor read anything.
func TestGuard(t *testing.T) {
	for _, x := range []struct {
		name, method, host string
		header             map[string]string
		tls                bool
		ok                 bool
	}{
		{"a client that is no browser", "POST", "127.0.0.1:9260", nil, false, true},
		{"IPv6", "GET", "[::1]:9260", nil, false, true},
		{"IPv6 without a port", "GET", "[::1]", nil, false, true},
		{"localhost", "GET", "LocalHost:9260", nil, false, true},
		{"a name that was given", "GET", "gw1.example.com", nil, false, true},
		{"the page itself", "POST", "127.0.0.1:9260", map[string]string{"Origin": "http://127.0.0.1:9260", "Sec-Fetch-Site": "same-origin"}, false, true},
		{"another site", "POST", "127.0.0.1:9260", map[string]string{"Origin": "http://evil.example", "Sec-Fetch-Site": "cross-site"}, false, false},
		{"another site, old browser", "POST", "127.0.0.1:9260", map[string]string{"Origin": "http://evil.example"}, false, false},
		{"another port", "DELETE", "127.0.0.1:9260", map[string]string{"Origin": "http://127.0.0.1:80", "Sec-Fetch-Site": "same-site"}, false, false},
		{"a certificate is not enough", "POST", "gw1:9261", map[string]string{"Origin": "https://evil.example"}, true, false},
		{"a name that points here", "GET", "evil.example:9260", nil, false, false},
		{"a name that looks like an address", "GET", "127.0.0.1.evil.example", nil, false, false},
		{"with TLS the certificate has the name", "GET", "gw1:9261", nil, true, true},
	} {
		t.Run(x.name, func(t *testing.T) {
			reached := false
			h := Guard(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { reached = true }), []string{"GW1.example.com"})
			target := "/"
			if x.tls {
				target = "https://" + x.host + "/"
			}
			r := httptest.NewRequest(x.method, target, nil)
			r.Host = x.host
			for k, v := range x.header {
				r.Header.Set(k, v)
			}
			w := httptest.NewRecorder()
			h.ServeHTTP(w, r)
			var p Problem
			if reached != x.ok || !x.ok && (w.Code != 403 || json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Error == "") {
				t.Errorf("reached %v: %d %s", reached, w.Code, w.Body)
			}
			if w.Header().Get("X-Content-Type-Options") != "nosniff" {
				t.Error(w.Header())
			}
		})
	}
}
