package api

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// CaptureOptions say which PDUs are captured. The zero value is all of them,
// until the reader ends it.
type CaptureOptions struct {
	TSIH      uint16        // of the session; 0: any
	Initiator string        // name; empty: any
	Target    string        // name; empty: any
	Duration  time.Duration // 0: until the reader goes
	Snaplen   int           // bytes kept of each PDU; 0: all
	Secrets   bool          // keep CHAP responses
}

func (o *CaptureOptions) query() url.Values {
	q := url.Values{}
	set := func(name, value string, given bool) {
		if given {
			q.Set(name, value)
		}
	}
	set("session", strconv.Itoa(int(o.TSIH)), o.TSIH != 0)
	set("initiator", o.Initiator, o.Initiator != "")
	set("target", o.Target, o.Target != "")
	set("duration", o.Duration.String(), o.Duration != 0)
	set("snaplen", strconv.Itoa(o.Snaplen), o.Snaplen != 0)
	set("secrets", "true", o.Secrets)
	return q
}

func captureOptions(q url.Values) (*CaptureOptions, error) {
	o := &CaptureOptions{Initiator: q.Get("initiator"), Target: q.Get("target"), Secrets: q.Get("secrets") == "true"}
	if s := q.Get("session"); s != "" {
		n, err := strconv.ParseUint(s, 0, 16)
		if err != nil {
			return nil, problemf(ErrInvalid, "session: %q is not a number", s)
		}
		o.TSIH = uint16(n)
	}
	if s := q.Get("snaplen"); s != "" {
		n, err := strconv.Atoi(s)
		if err != nil || n < 0 {
			return nil, problemf(ErrInvalid, "snaplen: %q is not a number of bytes", s)
		}
		o.Snaplen = n
	}
	var err error
	o.Duration, err = duration(q, "duration")
	return o, err
}

// duration reads a duration, such as "10s"; 0 if there is none.
func duration(q url.Values, name string) (time.Duration, error) {
	s := q.Get(name)
	if s == "" {
		return 0, nil
	}
	d, err := time.ParseDuration(s)
	if err != nil || d < 0 {
		return 0, problemf(ErrInvalid, "%s: %q is not a duration, such as 10s", name, s)
	}
	return d, nil
}

// capture streams PDUs as pcapng.
func (s *server) capture(w http.ResponseWriter, r *http.Request) {
	o, err := captureOptions(r.URL.Query())
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	stream(w, r, "application/x-pcapng", o.Duration, func(ctx context.Context, out io.Writer) error { return s.d.Capture(ctx, out, o) })
}

// stream serves what f writes, as it writes it, for a time (0: as long as the
// client stays).
func stream(w http.ResponseWriter, r *http.Request, kind string, limit time.Duration, f func(context.Context, io.Writer) error) {
	ctx := r.Context()
	if limit > 0 {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(ctx, limit)
		defer cancel()
	}
	out := &streamWriter{w: w, kind: kind}
	if err := f(ctx, out); err != nil && !out.begun {
		answer(w, 0, nil, err)
	}
}

// streamWriter sends what is written to it at once.
type streamWriter struct {
	w     http.ResponseWriter
	kind  string
	begun bool
}

// Write implements io.Writer.
func (s *streamWriter) Write(b []byte) (int, error) {
	if !s.begun {
		s.begun = true
		s.w.Header().Set("Content-Type", s.kind)
		s.w.Header().Set("Cache-Control", "no-store")
	}
	n, err := s.w.Write(b)
	if err != nil {
		return n, err
	}
	return n, http.NewResponseController(s.w).Flush()
}

// Capture streams PDUs as pcapng until ctx ends, the duration of o is over, or
// the daemon ends. The caller closes the stream.
func (c *Client) Capture(ctx context.Context, o *CaptureOptions) (io.ReadCloser, error) {
	return c.stream(ctx, "/v1/capture?"+o.query().Encode())
}

func (c *Client) stream(ctx context.Context, path string) (io.ReadCloser, error) {
	resp, err := c.send(ctx, http.MethodGet, path, nil)
	if err != nil {
		return nil, err
	}
	if resp.StatusCode >= 400 {
		defer resp.Body.Close()
		return nil, failure(resp)
	}
	return resp.Body, nil
}
