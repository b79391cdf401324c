package initiator

import (
	"bufio"
	"bytes"
	"net"
	"testing"
	"time"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
)

// seeds are the PDUs a target may send to the commands the fuzz targets have
// in flight.
func seeds(f *testing.F) {
	f.Helper()
	for _, m := range []pdu.Message{
		&pdu.DataIn{Final: true, HasStatus: true, InitiatorTaskTag: 1, DataLen: 4},
		&pdu.SCSIResponse{InitiatorTaskTag: 1, DataLen: 4},
		&pdu.R2T{InitiatorTaskTag: 2, DesiredDataTransferLength: 512},
		&pdu.NOPIn{InitiatorTaskTag: pdu.ReservedTag, TargetTransferTag: 3},
		&pdu.TextResponse{Final: true, InitiatorTaskTag: 3},
		&pdu.AsyncMessage{Event: 1},
		&pdu.Reject{Reason: 4, DataLen: 4},
	} {
		var h pdu.BHS
		m.Encode(&h)
		f.Add(append(h[:], 0, 2, 1, 2), false)
		f.Add(append(h[:], 0, 2, 1, 2, 0, 0, 0, 0), true)
	}
}

var fuzzParams = login.Params{
	MaxRecvDataSegmentLength: 8192, InitiatorMaxRecvDataSegmentLength: 4096,
	MaxBurstLength: 65536, FirstBurstLength: 8192, ImmediateData: true,
}

// FuzzSessionInput feeds what a target sends to the reader's dispatcher.
func FuzzSessionInput(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in []byte, digests bool) {
		c := &Conn{nc: discardConn{}, br: bufio.NewReader(bytes.NewReader(in)), maxRecv: 4096}
		c.SetDigests(digests, digests)
		s := &Session{
			c: c, tasks: make(map[uint32]*Task), window: make(chan struct{}), done: make(chan struct{}),
			r: LoginResult{Params: fuzzParams},
		}
		for tag := uint32(1); tag <= 3; tag++ {
			task := newTask(s)
			task.tag, task.scsi = tag, tag < 3
			task.cmd = Command{DataInLen: 16}
			if tag == 2 {
				task.cmd = Command{DataOut: make([]byte, 1024)}
			}
			s.tasks[tag] = task
		}
		for {
			p, err := c.ReadPDU()
			if err != nil {
				break
			}
			if s.dispatch(p) != nil {
				break
			}
		}
		s.fail(ErrClosed)
	})
}

// FuzzPipelineInput feeds it to a pipeline, in pieces.
func FuzzPipelineInput(f *testing.F) {
	seeds(f)
	f.Fuzz(func(t *testing.T, in []byte, digests bool) {
		c := &Conn{nc: discardConn{}, br: bufio.NewReader(bytes.NewReader(nil)), maxRecv: 4096}
		c.SetDigests(digests, digests)
		p := &Pipeline{c: c, r: LoginResult{Params: fuzzParams}, slots: make([]IO, 4), free: []int{3}}
		for i := range p.slots {
			p.slots[i] = IO{Slot: i, tag: uint32(i), Length: 16, Data: make([]byte, 1024)}
		}
		p.slots[2].Write, p.slots[2].Length = true, 1024
		p.tx = txQueue{headerDigest: digests, dataDigest: digests}
		p.rx = newRxStream(digests, digests, 4096)
		for len(in) > 0 {
			n := copy(p.rx.space(), in[:min(len(in), 1+int(in[0])%60)])
			in = in[n:]
			p.rx.w += n
			for {
				pd, err := p.rx.next(p)
				if err != nil {
					return
				}
				if pd == nil {
					break
				}
				if p.handle(pd, doNothing{}, 0) != nil {
					return
				}
			}
		}
	})
}

type doNothing struct{}

func (doNothing) Next(*IO) bool                 { return false }
func (doNothing) Done(*IO, time.Duration) error { return nil }

// discardConn is a peer that takes everything and says nothing.
type discardConn struct{ net.Conn }

func (discardConn) Write(b []byte) (int, error) { return len(b), nil }
func (discardConn) Close() error                { return nil }
