package runtime_test

import (
	"strconv"
	"testing"

	"github.com/iserd/iserd/actors/runtime"
)

func BenchmarkPumpRun(b *testing.B) {
	r := newRoot(b, runtime.Options{})
	p := runtime.NewPump()
	n := 0
	r.spawn(b, runtime.Spec{Name: "a", Pump: p, New: func() runtime.Actor {
		return runtime.Func(func(_ runtime.Context, msg any) {
			if m, ok := msg.(*tick); ok {
				n += m.n
			}
		})
	}})
	msg := any(&tick{1})
	p.Run(msg)
	b.ReportAllocs()
	for b.Loop() {
		p.Run(msg)
	}
}

// BenchmarkPingPong is two hops between two workers.
func BenchmarkPingPong(b *testing.B) {
	r := newRoot(b, runtime.Options{})
	type ball struct{ to runtime.Ref }
	var left int
	done := make(chan struct{})
	echo := r.spawn(b, runtime.Spec{Name: "echo", New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			if m, ok := msg.(*ball); ok {
				ctx.Send(m.to, msg)
			}
		})
	}})
	ping := r.spawn(b, runtime.Spec{Name: "ping", New: func() runtime.Actor {
		return runtime.Func(func(ctx runtime.Context, msg any) {
			if _, ok := msg.(*ball); !ok {
				return
			}
			if left--; left < 0 {
				done <- struct{}{}
				return
			}
			ctx.Send(echo, msg)
		})
	}})
	msg := any(&ball{ping})
	b.ReportAllocs()
	b.ResetTimer()
	left = b.N
	r.Send(ping, msg)
	<-done
}

// BenchmarkTell is one sender that never waits.
func BenchmarkTell(b *testing.B) {
	r := newRoot(b, runtime.Options{})
	done := make(chan struct{})
	ref := r.spawn(b, runtime.Spec{Name: "a", New: func() runtime.Actor {
		return runtime.Func(func(_ runtime.Context, msg any) {
			if msg == "end" {
				close(done)
			}
		})
	}})
	msg := any(&tick{1})
	b.ReportAllocs()
	b.ResetTimer()
	for range b.N {
		r.Send(ref, msg)
	}
	r.Send(ref, "end")
	<-done
}

func BenchmarkSpawnStop(b *testing.B) {
	r := newRoot(b, runtime.Options{})
	b.ReportAllocs()
	gone := make(chan struct{})
	n := 0
	for b.Loop() {
		n++
		name := strconv.Itoa(n)
		r.Send(r.ref, do(func(ctx runtime.Context) {
			ref, err := ctx.Spawn(runtime.Spec{Name: name, New: func() runtime.Actor {
				return runtime.Func(func(_ runtime.Context, msg any) {
					if msg == (runtime.Stopped{}) {
						gone <- struct{}{}
					}
				})
			}})
			if err != nil {
				b.Error(err)
			}
			ctx.Stop(ref)
		}))
		<-gone
	}
}
