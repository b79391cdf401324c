package softiwarp

import (
	"fmt"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// cpu is the time that this process has used.
func cpu() float64 {
	var u unix.Rusage
	_ = unix.Getrusage(unix.RUSAGE_SELF, &u)
	return float64(u.Utime.Nano() + u.Stime.Nano())
}

// reportCPU reports the CPU per operation of both ends together: they share
// the goroutine.
func reportCPU(b *testing.B, start float64) {
	b.ReportMetric((cpu()-start)/float64(b.N), "cpu-ns/op")
}

// BenchmarkSend64 sends and answers with 64 bytes, depth in flight.
func BenchmarkSend64(b *testing.B) {
	for _, depth := range []int{1, 32} {
		b.Run(fmt.Sprintf("depth=%d", depth), func(b *testing.B) {
			x, y := openPair(b, Config{})
			for range depth {
				x.recv(1, 0, 64)
				y.recv(1, 0, 64)
			}
			wc := make([]verbs.WC, 128)
			sx := []verbs.SendWR{{Op: verbs.OpSend, SG: x.sge(0, 64)}}
			sy := []verbs.SendWR{{Op: verbs.OpSend, SG: y.sge(0, 64)}}
			rx := []verbs.RecvWR{{SG: x.sge(0, 64)}}
			ry := []verbs.RecvWR{{SG: y.sge(0, 64)}}
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu()
			for sent, done := 0, 0; done < b.N; {
				for ; sent < b.N && sent-done < depth; sent++ {
					_, _ = x.qp.PostSend(sx)
				}
				n, _ := y.cq.Poll(wc)
				for range n {
					_, _ = y.qp.PostRecv(ry)
					_, _ = y.qp.PostSend(sy)
				}
				n, _ = x.cq.Poll(wc)
				for range n {
					_, _ = x.qp.PostRecv(rx)
				}
				done += n
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkWrite writes size bytes and 64 bytes of status, as a READ of iSER
// does; depth in flight.
func BenchmarkWrite(b *testing.B) {
	for _, c := range []struct {
		size, depth int
		crc         bool
	}{{4 << 10, 1, false}, {4 << 10, 32, false}, {4 << 10, 32, true}, {256 << 10, 2, false}, {256 << 10, 2, true}} {
		b.Run(fmt.Sprintf("size=%d/depth=%d/crc=%v", c.size, c.depth, c.crc), func(b *testing.B) {
			x, y := openPair(b, Config{CRC: c.crc})
			for range c.depth {
				y.recv(1, 0, 64)
			}
			wc := make([]verbs.WC, 128)
			wr := []verbs.SendWR{
				{Op: verbs.OpWrite, SG: x.sge(0, c.size), RAddr: y.addr(half), RKey: y.mr.RKey()},
				{Op: verbs.OpSend, SG: x.sge(0, 64)},
			}
			ry := []verbs.RecvWR{{SG: y.sge(0, 64)}}
			b.SetBytes(int64(c.size))
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu()
			for sent, done := 0, 0; done < b.N; {
				for ; sent < b.N && sent-done < c.depth; sent++ {
					_, _ = x.qp.PostSend(wr)
				}
				_, _ = x.cq.Poll(wc)
				n, _ := y.cq.Poll(wc)
				for range n {
					_, _ = y.qp.PostRecv(ry)
				}
				done += n
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkRead reads size bytes, as a WRITE of iSER does.
func BenchmarkRead(b *testing.B) {
	for _, size := range []int{4 << 10, 256 << 10} {
		b.Run(fmt.Sprintf("size=%d", size), func(b *testing.B) {
			const depth = 4
			x, y := openPair(b, Config{})
			wc := make([]verbs.WC, 128)
			wr := []verbs.SendWR{{Op: verbs.OpRead, Flags: verbs.SendSignaled, SG: x.sge(half, size), RAddr: y.addr(0), RKey: y.mr.RKey()}}
			b.SetBytes(int64(size))
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu()
			for sent, done := 0, 0; done < b.N; {
				for ; sent < b.N && sent-done < depth; sent++ {
					_, _ = x.qp.PostSend(wr)
				}
				n, _ := x.cq.Poll(wc)
				done += n
				_, _ = y.cq.Poll(wc)
			}
			reportCPU(b, start)
		})
	}
}

// BenchmarkConnections writes 4 KiB and 64 bytes of status on each of several
// connections between the same two CQs, 8 in flight on each.
func BenchmarkConnections(b *testing.B) {
	for _, conns := range []int{1, 4, 16} {
		b.Run(fmt.Sprintf("conns=%d", conns), func(b *testing.B) {
			const size, depth = 4 << 10, 8
			x, y := newEnd(b, Config{}), newEnd(b, Config{})
			sent, done := make([]int, conns), make(map[uint32]int)
			var qx, qy []*QP
			for range conns {
				connect(b, x, y)
				qx, qy = append(qx, x.qp), append(qy, y.qp)
				for _, c := range []*Conn{x.conn, y.conn} {
					b.Cleanup(func() { must(b, c.Close()) })
				}
				for range depth {
					y.recv(1, 0, 64)
				}
			}
			x.conn, y.conn = nil, nil
			wc := make([]verbs.WC, 256)
			wr := []verbs.SendWR{
				{Op: verbs.OpWrite, SG: x.sge(0, size), RAddr: y.addr(half), RKey: y.mr.RKey()},
				{Op: verbs.OpSend, SG: x.sge(0, 64)},
			}
			ry := []verbs.RecvWR{{SG: y.sge(0, 64)}}
			byNum := make(map[uint32]*QP)
			for _, q := range qy {
				byNum[q.Num()] = q
			}
			b.ReportAllocs()
			b.ResetTimer()
			start := cpu()
			for total := 0; total < b.N; {
				for i, q := range qx {
					for ; sent[i]-done[qy[i].Num()] < depth; sent[i]++ {
						_, _ = q.PostSend(wr)
					}
				}
				_, _ = x.cq.Poll(wc)
				n, _ := y.cq.Poll(wc)
				for _, w := range wc[:n] {
					_, _ = byNum[w.QPN].PostRecv(ry)
					done[w.QPN]++
				}
				total += n
			}
			reportCPU(b, start)
		})
	}
}
