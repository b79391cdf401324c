package main

import (
	"context"
	"fmt"
	"time"

	"github.com/hashicorp/go-hclog"

	"github.com/iserd/iserd/config"
	"github.com/iserd/iserd/luns"
	"github.com/iserd/iserd/luns/filter"
	"github.com/iserd/iserd/luns/filter/delay"
	"github.com/iserd/iserd/luns/filter/fault"
	"github.com/iserd/iserd/luns/filter/stats"
)

// filtered puts the filters above what open opens; the first is the outermost.
func filtered(open luns.Opener, filters []config.Filter, log hclog.Logger) (luns.Opener, error) {
	for i := len(filters) - 1; i >= 0; i-- {
		wrap, err := wrapper(&filters[i], log)
		if err != nil {
			return nil, err
		}
		inner := open
		open = func(ctx context.Context) (luns.Backend, error) {
			b, err := inner(ctx)
			if err != nil {
				return nil, err
			}
			return wrap(b), nil
		}
	}
	return open, nil
}

// wrapper returns what puts one filter above a backend, which it takes.
func wrapper(f *config.Filter, log hclog.Logger) (func(luns.Backend) luns.Backend, error) {
	switch {
	case f.Delay != nil:
		l := latencies(f.Delay)
		return func(b luns.Backend) luns.Backend { return delay.New(b, l) }, nil
	case f.Fault != nil:
		r, err := rule(f.Fault)
		if err != nil {
			return nil, err
		}
		return func(b luns.Backend) luns.Backend {
			fb := fault.New(b)
			fb.Inject(r)
			return fb
		}, nil
	case f.Stats != nil:
		return func(b luns.Backend) luns.Backend { return &counted{Backend: stats.New(b), log: log} }, nil
	default:
		return nil, fmt.Errorf("unknown filter kind %q", f.Kind)
	}
}

func latencies(d *config.DelayFilter) []delay.Latency {
	var l []delay.Latency
	for _, x := range []struct {
		op    filter.Op
		fixed time.Duration
	}{{filter.Read, d.Read}, {filter.Write, d.Write}, {filter.Flush, d.Flush}} {
		if x.fixed > 0 {
			l = append(l, delay.Latency{Ops: x.op, Fixed: x.fixed, Random: d.Random})
		}
	}
	return l
}

func rule(f *config.FaultFilter) (fault.Rule, error) {
	r := fault.Rule{Off: f.Offset, Len: f.Length, Rate: f.Rate, Skip: f.Skip, Count: f.Count, Action: fault.Fail}
	for _, name := range f.Operations {
		op, err := filter.ParseOp(name)
		if err != nil {
			return fault.Rule{}, err
		}
		r.Ops |= op
	}
	switch f.Error {
	case "medium":
		r.Err = luns.ErrMedium
	case "no-space":
		r.Err = luns.ErrNoSpace
	case "read-only":
		r.Err = luns.ErrReadOnly
	case "transient":
		r.Err = luns.ErrTransient
	case "offline":
		r.Err = luns.ErrOffline
	default:
		return fault.Rule{}, fmt.Errorf("unknown error %q", f.Error)
	}
	return r, nil
}

// counted is a stats filter that logs its counters when it is closed.
type counted struct {
	*stats.Backend
	log hclog.Logger
}

// Close implements luns.Backend.
func (c *counted) Close() error {
	s := c.Snapshot()
	for i := range filter.NumOps {
		op := filter.Op(1 << i)
		n := s.Of(op)
		if n.Ops == 0 {
			continue
		}
		c.log.Info("stats", "op", op.String(), "ops", n.Ops, "bytes", n.Bytes, "errors", n.Errors,
			"mean_latency", time.Duration(n.Nanoseconds/n.Ops).String())
	}
	return c.Backend.Close()
}
