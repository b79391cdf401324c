package main

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"testing"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

// TestPage: each listener has the page and tells its clients what they may do; pages of
// other sites may do nothing, whatever the browser shows by itself.
func TestPage(t *testing.T) {
	dir := t.TempDir()
	ca := pair(t, dir, "ca", nil)
	pair(t, dir, "server", ca)
	client := pair(t, dir, "client", ca)
	in := func(name string) string { return filepath.Join(dir, name) }
	r := newRig(t, reloadA)
	socket, remote, open := in("c.sock"), freePort(t), freePort(t)
	r.open(config.Console{
		Listen: "unix:" + socket,
		Remote: &config.Remote{Listen: remote, Certificate: in("server.pem"), Key: in("server.key"), ClientCA: in("ca.pem")},
	}, &config.HTTP{Listen: open, Secret: config.NewSecret(canary), Names: []string{"gw1.example.com"}})
	pool, err := authorities(in("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	overTLS := &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{*client}}}}
	overSocket := &http.Client{Transport: &http.Transport{DialContext: func(context.Context, string, string) (net.Conn, error) { return net.Dial("unix", socket) }}}
	defer overTLS.CloseIdleConnections()
	defer overSocket.CloseIdleConnections()
	defer http.DefaultClient.CloseIdleConnections()

	for name, x := range map[string]struct {
		client    *http.Client
		base      string
		scope     string
		needToken bool
	}{
		"http":    {http.DefaultClient, "http://" + open, "read", true},
		"socket":  {overSocket, "http://localhost", "admin", false},
		"console": {overSocket, "http://iserd", "admin", false},
		"remote":  {overTLS, "https://" + remote, "admin", false},
	} {
		t.Run(name, func(t *testing.T) {
			if code, text := fetch(t, x.client, "GET", x.base+"/", nil); code != 200 || !strings.Contains(text, "<!doctype html>") {
				t.Error(code, text)
			}
			_, text := fetch(t, x.client, "GET", x.base+"/v1/access", nil)
			var a api.Access
			if err := json.Unmarshal([]byte(text), &a); err != nil || a.Scope != x.scope || a.Token != x.needToken {
				t.Errorf("%v %s", err, text)
			}
			reload := x.base + "/v1/config/reload"
			given := map[string]string{}
			if x.needToken {
				if code, _ := fetch(t, x.client, "POST", reload, nil); code != 403 {
					t.Error("reloaded without a token:", code)
				}
				given[api.TokenHeader] = canary
			}
			if code, text := fetch(t, x.client, "POST", reload, given); code != 200 {
				t.Error(code, text)
			}
			given["Origin"], given["Sec-Fetch-Site"] = "https://elsewhere.example", "cross-site"
			if code, text := fetch(t, x.client, "POST", reload, given); code != 403 || !strings.Contains(text, "another site") {
				t.Error("another site's page reloaded:", code, text)
			}
		})
	}
	for host, want := range map[string]int{"gw1.example.com": 200, "elsewhere.example": 403} {
		if code, text := fetch(t, http.DefaultClient, "GET", "http://"+open+"/v1/status", map[string]string{"Host": host}); code != want {
			t.Error(host, code, text)
		}
	}
}

// fetch sends a request and returns the answer and its body.
func fetch(t *testing.T, c *http.Client, method, url string, header map[string]string) (status int, body string) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, nil)
	if err != nil {
		t.Fatal(err)
	}
	for k, v := range header {
		req.Header.Set(k, v)
	}
	req.Host = header["Host"]
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(text)
}

// TestHash: the digest of the configuration changes with it, and is not made anew for
// each page that asks.
func TestHash(t *testing.T) {
	r := newRig(t, reloadA)
	a := newAdmin(r.ctl)
	hash := func() string {
		t.Helper()
		s, err := a.Status(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		return s.Config.Hash
	}
	first := hash()
	if again := hash(); again != first || len(first) != 8 {
		t.Errorf("%q, then %q", first, again)
	}
	r.write(strings.Replace(reloadA, `"one"`, `"two"`, 1))
	if _, err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	second := hash()
	if second == first {
		t.Error("the digest of another configuration is", first)
	}
	r.write(reloadA)
	if _, err := a.Reload(t.Context()); err != nil {
		t.Fatal(err)
	}
	if back := hash(); back != first {
		t.Errorf("back to %q, want %q", back, first)
	}
	c := r.ctl.inForceNow()
	if n := testing.AllocsPerRun(10, func() { a.hashOf(c) }); n > 0 {
		t.Errorf("%g allocations for a digest that is known", n)
	}
}
