package api

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"time"
)

// TraceOptions say which commands a trace shows. All that is set must hold.
type TraceOptions struct {
	TSIH       uint16        // of the session; 0: any
	Initiator  string        // name; empty: any
	Target     string        // name; empty: any
	LUN        int           // number in the target; -1: any
	SlowerThan time.Duration // from the command to its response
	Errors     bool          // only what did not end with GOOD
	PerSecond  int           // commands shown in a second; 0: 1000
	Duration   time.Duration // 0: until the reader goes
}

func (o *TraceOptions) query() url.Values {
	q := (&CaptureOptions{TSIH: o.TSIH, Initiator: o.Initiator, Target: o.Target, Duration: o.Duration}).query()
	if o.LUN >= 0 {
		q.Set("lun", strconv.Itoa(o.LUN))
	}
	if o.SlowerThan > 0 {
		q.Set("slower_than", o.SlowerThan.String())
	}
	if o.Errors {
		q.Set("errors", "true")
	}
	if o.PerSecond > 0 {
		q.Set("per_second", strconv.Itoa(o.PerSecond))
	}
	return q
}

func traceOptions(q url.Values) (*TraceOptions, error) {
	c, err := captureOptions(q)
	if err != nil {
		return nil, err
	}
	o := &TraceOptions{TSIH: c.TSIH, Initiator: c.Initiator, Target: c.Target, Duration: c.Duration, LUN: -1, Errors: q.Get("errors") == "true"}
	for name, into := range map[string]*int{"lun": &o.LUN, "per_second": &o.PerSecond} {
		if s := q.Get(name); s != "" {
			n, err := strconv.ParseUint(s, 10, 31)
			if err != nil {
				return nil, problemf(ErrInvalid, "%s: %q is not a number", name, s)
			}
			*into = int(n)
		}
	}
	o.SlowerThan, err = duration(q, "slower_than")
	return o, err
}

// trace streams commands, one JSON object in each line.
func (s *server) trace(w http.ResponseWriter, r *http.Request) {
	o, err := traceOptions(r.URL.Query())
	if err != nil {
		answer(w, 0, nil, err)
		return
	}
	stream(w, r, "application/jsonl", o.Duration, func(ctx context.Context, out io.Writer) error {
		enc := json.NewEncoder(out)
		return s.d.Trace(ctx, o, func(t *Trace) error {
			if t == nil {
				_, err := out.Write(nil) // the head: it has begun
				return err
			}
			return enc.Encode(t)
		})
	})
}

// Trace calls f for each line of a trace until ctx ends, the duration of o is
// over, or the daemon ends. F is called once with nil when the trace has begun.
func (c *Client) Trace(ctx context.Context, o *TraceOptions, f func(*Trace)) error {
	body, err := c.stream(ctx, "/v1/trace?"+o.query().Encode())
	if err != nil {
		return err
	}
	defer body.Close()
	f(nil)
	lines := bufio.NewScanner(body)
	lines.Buffer(nil, maxBody)
	for lines.Scan() {
		var t Trace
		if err := json.Unmarshal(lines.Bytes(), &t); err != nil {
			return fmt.Errorf("trace: %w", err)
		}
		f(&t)
	}
	return lines.Err()
}
