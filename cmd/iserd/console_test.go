package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/json"
	"encoding/pem"
	"errors"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
)

// canary is a secret that must be seen nowhere.
const canary = "canary-7f3a90be12"

const withSecret = reloadA + `
auth "a" {
  type = "mutual-chap"
  user "u" { secret = "` + canary + `" }
  mutual {
    user   = "t"
    secret = "` + canary + `-mutual"
  }
}
backend "memory" "secret" { size = "1MiB" }
target "iqn.2026-11.com.example:secret" {
  auth = "a"
  lun "0" { backend = backend.memory.secret }
}
`

// open offers a rig on a socket.
func (r *rig) open(c config.Console, h *config.HTTP) *api.Client {
	r.t.Helper()
	full := *r.ctl.inForceNow()
	full.Console, full.HTTP = c, h
	if c.Listen == "" {
		full.Console.Listen = "unix:" + filepath.Join(r.t.TempDir(), "c.sock")
	}
	o, err := openConsoles(newAdmin(r.ctl), &full, hclog.NewNullLogger())
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(o.close)
	r.at = full.Console.Listen
	cl, err := api.NewClient(full.Console.Listen, nil)
	if err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(cl.Close)
	return cl
}

// TestNoSecretIsTold: no document of the API has a secret.
func TestNoSecretIsTold(t *testing.T) {
	r := newRig(t, withSecret)
	cl := r.open(config.Console{}, nil)
	r.write(strings.ReplaceAll(withSecret, canary, canary+"-changed"))
	for _, path := range []string{
		"/v1/status", "/v1/portals", "/v1/targets", "/v1/sessions", "/v1/actors", "/v1/faults", "/v1/refusals", "/v1/logins", "/v1/log",
		"/v1/config", "/v1/config/plan", "/metrics", "/healthz", "/debug/pprof/goroutine?debug=2",
	} {
		b, err := cl.Raw(t.Context(), path)
		if err != nil {
			t.Errorf("%s: %v", path, err)
		}
		if strings.Contains(string(b), canary) {
			t.Errorf("%s shows a secret:\n%s", path, b)
		}
	}
}

// TestSocketMode: nobody but owner and group may use the console, at no moment,
// and a second daemon does not take it over.
func TestSocketMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "sub", "c.sock")
	l, err := listenSocket(path, "")
	if err != nil {
		t.Fatal(err)
	}
	info, err := os.Stat(path)
	if err != nil || info.Mode().Perm() != 0o660 {
		t.Errorf("%v %v", info.Mode(), err)
	}
	var e *exitError
	if _, err := listenSocket(path, ""); !errors.As(err, &e) || e.code != exitBusy {
		t.Errorf("taken over: %v", err)
	}
	l.Close()
	if _, err := os.Stat(path); err == nil {
		t.Error("the socket is left")
	}
	// One that a killed daemon has left is in nobody's way.
	dead, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	dead.(*net.UnixListener).SetUnlinkOnClose(false)
	dead.Close()
	l, err = listenSocket(path, "")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
}

// TestReadOnlyHTTP: the loopback listener changes nothing and tells neither
// configuration nor profiles.
func TestReadOnlyHTTP(t *testing.T) {
	r := newRig(t, withSecret)
	at := freePort(t)
	r.open(config.Console{}, &config.HTTP{Listen: at})
	for _, x := range []struct {
		method, path string
		ok           bool
	}{
		{"GET", "/metrics", true},
		{"GET", "/healthz", true},
		{"GET", "/v1/targets", true},
		{"GET", "/openapi.json", true},
		{"GET", "/v1/config", false},
		{"GET", "/v1/log", false},
		{"GET", "/debug/pprof/heap", false},
		{"POST", "/v1/config/reload", false},
		{"DELETE", "/v1/targets/iqn.2026-11.com.example:still", false},
		{"PUT", "/v1/targets/x", false},
		{"POST", "/v1/actors/node?do=restart", false},
	} {
		req, err := http.NewRequestWithContext(t.Context(), x.method, "http://"+at+x.path, strings.NewReader("{}"))
		if err != nil {
			t.Fatal(err)
		}
		resp, err := http.DefaultClient.Do(req)
		if err != nil {
			t.Fatal(err)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		resp.Body.Close()
		if (resp.StatusCode < 300) != x.ok {
			t.Errorf("%s %s: %s", x.method, x.path, resp.Status)
		}
	}
}

// TestEvents: a fault and a reload are told as they happen.
func TestEvents(t *testing.T) {
	r := newRig(t, reloadA)
	cl := r.open(config.Console{}, nil)
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	got := make(chan api.Event, 16)
	ended := make(chan error, 1)
	go func() { ended <- cl.Events(ctx, api.EventOptions{Follow: true}, func(e api.Event) { got <- e }) }()
	for {
		if err := cl.ActorDo(ctx, "node/lun-iqn.2026-11.com.example:still:0", "restart"); err != nil {
			t.Fatal(err)
		}
		select {
		case e := <-got:
			var f api.Fault
			if err := json.Unmarshal(e.Data, &f); err != nil || e.Name != "fault" || f.Action != "restarted" {
				t.Fatalf("%s %s %v", e.Name, e.Data, err)
			}
			if _, err := cl.Reload(ctx); err != nil {
				t.Fatal(err)
			}
			for e = range got {
				if e.Name == "config" {
					cancel()
					<-ended
					return
				}
			}
		case <-time.After(300 * time.Millisecond): // it had not subscribed yet
		case <-ctx.Done():
			t.Fatal("no event")
		}
	}
}

// pair makes a certificate signed by ca, or by itself when ca is nil.
func pair(t *testing.T, dir, name string, ca *tls.Certificate) *tls.Certificate {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	tmpl := &x509.Certificate{
		SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: name},
		NotBefore: time.Now().Add(-time.Hour), NotAfter: time.Now().Add(time.Hour), IsCA: ca == nil, BasicConstraintsValid: true,
		KeyUsage: x509.KeyUsageDigitalSignature | x509.KeyUsageCertSign, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1)},
		ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth},
	}
	parent, signer := tmpl, any(key)
	if ca != nil {
		if parent, err = x509.ParseCertificate(ca.Certificate[0]); err != nil {
			t.Fatal(err)
		}
		signer = ca.PrivateKey
	}
	der, err := x509.CreateCertificate(rand.Reader, tmpl, parent, &key.PublicKey, signer)
	if err != nil {
		t.Fatal(err)
	}
	pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
	if err != nil {
		t.Fatal(err)
	}
	for file, block := range map[string]*pem.Block{".pem": {Type: "CERTIFICATE", Bytes: der}, ".key": {Type: "PRIVATE KEY", Bytes: pkcs8}} {
		if err := os.WriteFile(filepath.Join(dir, name+file), pem.EncodeToMemory(block), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
}

// TestRemote: over TCP nothing works without a certificate of the right
// authority.
func TestRemote(t *testing.T) {
	dir := t.TempDir()
	ca := pair(t, dir, "ca", nil)
	pair(t, dir, "server", ca)
	good := pair(t, dir, "client", ca)
	bad := pair(t, dir, "stranger", nil)
	r := newRig(t, reloadA)
	at := freePort(t)
	in := func(name string) string { return filepath.Join(dir, name) }
	r.open(config.Console{Remote: &config.Remote{Listen: at, Certificate: in("server.pem"), Key: in("server.key"), ClientCA: in("ca.pem")}}, nil)
	pool, err := authorities(in("ca.pem"))
	if err != nil {
		t.Fatal(err)
	}
	for name, x := range map[string]struct {
		certs []tls.Certificate
		ok    bool
	}{"right": {[]tls.Certificate{*good}, true}, "another authority": {[]tls.Certificate{*bad}, false}, "none": {nil, false}} {
		cl, err := api.NewClient(at, &tls.Config{RootCAs: pool, Certificates: x.certs})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := cl.Status(t.Context()); (err == nil) != x.ok {
			t.Errorf("%s: %v", name, err)
		}
		if x.ok {
			if _, err := cl.Raw(t.Context(), "/debug/pprof/heap"); err == nil {
				t.Error("profiles over the network")
			}
		}
		cl.Close()
	}
}
