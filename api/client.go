package api

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"time"
)

// ErrNotUp is wrapped by errors that mean that no daemon answers.
var ErrNotUp = errors.New("the daemon is not running")

// Client talks to a daemon. Its methods are safe for concurrent use.
type Client struct {
	base string
	http *http.Client
	at   string
}

// NewClient returns a client of the console at "unix:PATH", or at "ADDR:PORT"
// with mutual TLS by cfg. It does not connect yet.
func NewClient(at string, cfg *tls.Config) (*Client, error) {
	t := &http.Transport{TLSClientConfig: cfg, DisableCompression: true}
	c := &Client{http: &http.Client{Transport: t}, at: at, base: "https://" + at}
	if path, ok := strings.CutPrefix(at, "unix:"); ok {
		c.base = "http://iserd"
		t.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			var d net.Dialer
			return d.DialContext(ctx, "unix", path)
		}
		return c, nil
	}
	if cfg == nil {
		return nil, fmt.Errorf("console %q: write unix:/PATH, or ADDR:PORT with a certificate", at)
	}
	return c, nil
}

// Close ends idle connections.
func (c *Client) Close() { c.http.CloseIdleConnections() }

// do sends a request and decodes the answer into out, if that is not nil.
func (c *Client) do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	resp, err := c.send(ctx, method, path, body)
	if err != nil {
		return err
	}
	defer resp.Body.Close()
	if resp.StatusCode >= 400 {
		return failure(resp)
	}
	switch out := out.(type) {
	case nil:
		return nil
	case *[]byte:
		*out, err = io.ReadAll(resp.Body)
		return err
	default:
		return json.NewDecoder(resp.Body).Decode(out)
	}
}

func (c *Client) send(ctx context.Context, method, path string, body io.Reader) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, c.base+path, body)
	if err != nil {
		return nil, err
	}
	resp, err := c.http.Do(req)
	var op *net.OpError
	if errors.As(err, &op) && op.Op == "dial" {
		return nil, &problem{kind: ErrNotUp, text: fmt.Sprintf("no daemon answers at %s: %v", c.at, op.Err), cause: op.Err}
	}
	return resp, err
}

// RequestError is the answer of a daemon that refused a request.
type RequestError struct {
	Problem
	Status int // of HTTP
}

// Error returns what the daemon says.
func (e *RequestError) Error() string { return e.Problem.Error }

// Unwrap returns the kind of the error, if it is one of this package.
func (e *RequestError) Unwrap() error {
	for _, kind := range []error{ErrNotFound, ErrConflict, ErrForbidden, ErrInvalid} {
		if statusOf(kind) == e.Status {
			return kind
		}
	}
	return nil
}

func failure(resp *http.Response) error {
	e := &RequestError{Status: resp.StatusCode}
	b, err := io.ReadAll(io.LimitReader(resp.Body, maxBody))
	if err != nil || json.Unmarshal(b, &e.Problem) != nil || e.Problem.Error == "" {
		e.Problem.Error = resp.Status
	}
	return e
}

func fetch[T any](ctx context.Context, c *Client, path string) (v T, err error) {
	err = c.do(ctx, http.MethodGet, path, nil, &v)
	return v, err
}

// Status asks for the daemon at a glance.
func (c *Client) Status(ctx context.Context) (*Status, error) {
	return fetch[*Status](ctx, c, "/v1/status")
}

// Portals lists the portals.
func (c *Client) Portals(ctx context.Context) ([]Portal, error) {
	return fetch[[]Portal](ctx, c, "/v1/portals")
}

// Targets lists the targets by name.
func (c *Client) Targets(ctx context.Context) ([]Target, error) {
	return fetch[[]Target](ctx, c, "/v1/targets")
}

// Target asks for one target.
func (c *Client) Target(ctx context.Context, name string) (*Target, error) {
	return fetch[*Target](ctx, c, targetPath(name))
}

// LUN asks for one LUN.
func (c *Client) LUN(ctx context.Context, target string, lun uint16) (*LUN, error) {
	return fetch[*LUN](ctx, c, lunPath(target, lun))
}

// Sessions lists the sessions by TSIH.
func (c *Client) Sessions(ctx context.Context) ([]Session, error) {
	return fetch[[]Session](ctx, c, "/v1/sessions")
}

// Session asks for one session.
func (c *Client) Session(ctx context.Context, tsih uint16) (*Session, error) {
	return fetch[*Session](ctx, c, "/v1/sessions/"+strconv.Itoa(int(tsih)))
}

// Actors lists the living actors by path.
func (c *Client) Actors(ctx context.Context) ([]Actor, error) {
	return fetch[[]Actor](ctx, c, "/v1/actors")
}

// Actor asks for one actor, with details of its state.
func (c *Client) Actor(ctx context.Context, path string) (*Actor, error) {
	return fetch[*Actor](ctx, c, actorPath(path))
}

// Inject causes a fault in an actor: panic, stop, or delay for a time.
func (c *Client) Inject(ctx context.Context, path, fault string, delay time.Duration) error {
	q := url.Values{"do": {"inject"}, "fault": {fault}, "for": {delay.String()}}
	return c.do(ctx, http.MethodPost, actorPath(path)+"?"+q.Encode(), nil, nil)
}

// ActorDo restarts or stops an actor.
func (c *Client) ActorDo(ctx context.Context, path, what string) error {
	return c.do(ctx, http.MethodPost, actorPath(path)+"?do="+url.QueryEscape(what), nil, nil)
}

// Faults lists the supervision events, oldest first.
func (c *Client) Faults(ctx context.Context) ([]Fault, error) {
	return fetch[[]Fault](ctx, c, "/v1/faults")
}

// Refusals lists the refused logins, the latest first.
func (c *Client) Refusals(ctx context.Context) ([]Refusal, error) {
	return fetch[[]Refusal](ctx, c, "/v1/refusals")
}

// EnsureTarget makes a target unless it exists with the same specification.
func (c *Client) EnsureTarget(ctx context.Context, name string, spec *TargetSpec) (*Target, error) {
	var t Target
	return &t, c.do(ctx, http.MethodPut, targetPath(name), spec, &t)
}

// DeleteTarget removes a target that was made by EnsureTarget.
func (c *Client) DeleteTarget(ctx context.Context, name string) error {
	return c.do(ctx, http.MethodDelete, targetPath(name), nil, nil)
}

// EnsureLUN makes a LUN of a target that was made by EnsureTarget.
func (c *Client) EnsureLUN(ctx context.Context, target string, spec *LUNSpec) (*LUN, error) {
	var l LUN
	return &l, c.do(ctx, http.MethodPut, lunPath(target, spec.Number), spec, &l)
}

// DeleteLUN removes a LUN of a target that was made by EnsureTarget.
func (c *Client) DeleteLUN(ctx context.Context, target string, lun uint16) error {
	return c.do(ctx, http.MethodDelete, lunPath(target, lun), nil, nil)
}

// ResizeLUN changes the size of a LUN; "" takes over the size that its backend
// has by now.
func (c *Client) ResizeLUN(ctx context.Context, target string, lun uint16, size string) error {
	return c.do(ctx, http.MethodPost, lunPath(target, lun)+"/resize", map[string]string{"size": size}, nil)
}

// SetLUNOffline takes a LUN offline, or brings it back.
func (c *Client) SetLUNOffline(ctx context.Context, target string, lun uint16, offline bool) error {
	return c.do(ctx, http.MethodPost, lunPath(target, lun)+line(offline), nil, nil)
}

// SetTargetOffline takes a target offline, or brings it back.
func (c *Client) SetTargetOffline(ctx context.Context, target string, offline bool) error {
	return c.do(ctx, http.MethodPost, targetPath(target)+line(offline), nil, nil)
}

// ClearReservations removes all persistent reservations of a LUN.
func (c *Client) ClearReservations(ctx context.Context, target string, lun uint16) error {
	return c.do(ctx, http.MethodDelete, lunPath(target, lun)+"/reservations", nil, nil)
}

// SetALUA changes how a portal group leads to a LUN.
func (c *Client) SetALUA(ctx context.Context, target string, lun uint16, group string, change *ALUAChange) error {
	return c.do(ctx, http.MethodPost, lunPath(target, lun)+"/alua/"+url.PathEscape(group), change, nil)
}

// Logout ends a session.
func (c *Client) Logout(ctx context.Context, tsih uint16, force bool) error {
	return c.do(ctx, http.MethodDelete, fmt.Sprintf("/v1/sessions/%d?force=%v", tsih, force), nil, nil)
}

// LogLevels asks for the levels of the log.
func (c *Client) LogLevels(ctx context.Context) (*LogLevels, error) {
	return fetch[*LogLevels](ctx, c, "/v1/log")
}

// SetLogLevels replaces the levels of the log, until the next reload that has
// others.
func (c *Client) SetLogLevels(ctx context.Context, l *LogLevels) error {
	return c.do(ctx, http.MethodPut, "/v1/log", l, nil)
}

// ConfigText asks for the configuration in force, as HCL without secrets.
func (c *Client) ConfigText(ctx context.Context) ([]byte, error) {
	return fetch[[]byte](ctx, c, "/v1/config")
}

// Plan asks what a reload would do.
func (c *Client) Plan(ctx context.Context) (*Plan, error) {
	return fetch[*Plan](ctx, c, "/v1/config/plan")
}

// Reload has the daemon read its configuration again.
func (c *Client) Reload(ctx context.Context) (*Plan, error) {
	var p Plan
	return &p, c.do(ctx, http.MethodPost, "/v1/config/reload", nil, &p)
}

// Raw asks for any document, such as "/metrics".
func (c *Client) Raw(ctx context.Context, path string) ([]byte, error) {
	return fetch[[]byte](ctx, c, path)
}

func targetPath(name string) string { return "/v1/targets/" + url.PathEscape(name) }

func lunPath(target string, lun uint16) string {
	return targetPath(target) + "/luns/" + strconv.Itoa(int(lun))
}

func actorPath(path string) string {
	return "/v1/actors/" + strings.ReplaceAll(url.PathEscape(path), "%2F", "/")
}

func line(offline bool) string {
	if offline {
		return "/offline"
	}
	return "/online"
}
