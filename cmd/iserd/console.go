package main

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/api"
	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/web"
)

// consoles are the listeners of the API.
type consoles struct {
	servers []*http.Server
	at      []net.Listener
	ended   []chan struct{}
}

// openConsoles offers d where the configuration says. A console that nobody has
// asked for may fail: another daemon runs, or there is no right to make it.
func openConsoles(d api.Daemon, c *config.Config, log hclog.Logger) (*consoles, error) {
	o := &consoles{}
	if err := o.open(d, c, log); err != nil {
		o.close()
		return nil, err
	}
	return o, nil
}

func (o *consoles) open(d api.Daemon, c *config.Config, log hclog.Logger) error {
	page, err := web.Load()
	if err != nil {
		return err
	}
	if path := config.SocketPath(c.Console.Listen); path != "" {
		l, err := listenSocket(path, c.Console.Group)
		switch {
		case err == nil:
			o.serve(l, site(page, api.NewHandler(d, api.AdminLocal), []string{"iserd"})) // the name that api.Client asks for
			log.Info("console", "listen", c.Console.Listen)
		case c.Console.Has("listen"):
			return fmt.Errorf("console: %w", err)
		default:
			log.Warn("no console", "reason", err)
		}
	}
	if r := c.Console.Remote; r != nil {
		l, err := listenRemote(r)
		if err != nil {
			return fmt.Errorf("console.remote: %w", err)
		}
		o.serve(l, site(page, api.NewHandler(d, api.Admin), nil))
		log.Info("console", "listen", r.Listen)
	}
	if h := c.HTTP; h != nil {
		l, err := net.Listen("tcp", h.Listen)
		if err != nil {
			return fmt.Errorf("http: %w", err)
		}
		o.serve(l, site(page, api.NewTokenHandler(d, string(h.Secret.Reveal())), h.Names))
		log.Info("http", "page", "http://"+l.Addr().String()+"/", "operators", !h.Secret.IsZero())
	}
	return nil
}

// site is the web page and the interface that it uses, kept from other sites.
func site(page *web.Page, rest http.Handler, names []string) http.Handler {
	h := page.Handler(rest)
	mux := http.NewServeMux()
	mux.Handle("/{$}", h)
	mux.Handle("/plain", h)
	mux.Handle("/assets/", h)
	mux.Handle("/", rest)
	return api.Guard(mux, names)
}

func (o *consoles) serve(l net.Listener, h http.Handler) {
	s := &http.Server{Handler: h, ReadHeaderTimeout: 10 * time.Second, IdleTimeout: time.Minute}
	ended := make(chan struct{})
	o.servers, o.at, o.ended = append(o.servers, s), append(o.at, l), append(o.ended, ended)
	go func() {
		defer close(ended)
		_ = s.Serve(l) // ends by close
	}()
}

// close ends all of them at once: what is asked now has no answer any more.
func (o *consoles) close() {
	for i, s := range o.servers {
		_ = s.Close() // the sockets go with the process anyway
		<-o.ended[i]
	}
}

// listenSocket makes a unix socket of mode 0660 without a moment in which it has
// another, and takes the place of one that nobody listens on.
func listenSocket(path, group string) (net.Listener, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return nil, err
	}
	if c, err := net.DialTimeout("unix", path, time.Second); err == nil {
		c.Close()
		return nil, &exitError{exitBusy, fmt.Errorf("%s: another daemon listens there", path)}
	}
	dir, err := os.MkdirTemp(filepath.Dir(path), ".console")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(dir)
	hidden := filepath.Join(dir, "s")
	l, err := net.Listen("unix", hidden)
	if err != nil {
		return nil, err
	}
	l.(*net.UnixListener).SetUnlinkOnClose(false)
	err = errors.Join(os.Chmod(hidden, 0o660), chgrp(hidden, group))
	if err == nil {
		err = os.Rename(hidden, path)
	}
	if err != nil {
		l.Close()
		return nil, err
	}
	return &socket{l, path}, nil
}

// socket removes its file when it is closed.
type socket struct {
	net.Listener
	path string
}

// Close implements net.Listener.
func (s *socket) Close() error {
	_ = os.Remove(s.path) // it may be gone
	return s.Listener.Close()
}

func chgrp(path, group string) error {
	if group == "" {
		return nil
	}
	g, err := user.LookupGroup(group)
	if err != nil {
		return err
	}
	gid, err := strconv.Atoi(g.Gid)
	if err != nil {
		return err
	}
	return os.Chown(path, -1, gid)
}

// listenRemote listens with TLS 1.3 and wants a certificate of every client.
func listenRemote(r *config.Remote) (net.Listener, error) {
	cert, err := tls.LoadX509KeyPair(r.Certificate, r.Key)
	if err != nil {
		return nil, err
	}
	ca, err := authorities(r.ClientCA)
	if err != nil {
		return nil, err
	}
	return tls.Listen("tcp", r.Listen, &tls.Config{
		Certificates: []tls.Certificate{cert}, ClientCAs: ca,
		ClientAuth: tls.RequireAndVerifyClientCert, MinVersion: tls.VersionTLS13,
	})
}

func authorities(file string) (*x509.CertPool, error) {
	pem, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s: no certificate in it", file)
	}
	return pool, nil
}

// watch tells the service manager that the daemon is alive, as long as the root
// of the actors answers; it ends with ctx.
func watch(ctx context.Context, d api.Daemon, every time.Duration, alive func()) {
	if every <= 0 {
		return
	}
	t := time.NewTicker(every / 2)
	defer t.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-t.C:
			if d.Ping(ctx) == nil {
				alive()
			}
		}
	}
}
