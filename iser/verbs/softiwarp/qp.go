package softiwarp

import (
	"errors"
	"fmt"

	"golang.org/x/sys/unix"

	"github.com/iserd/iserd/iser/verbs"
)

// qpState is the state of a queue pair.
type qpState uint8

const (
	qpIdle   qpState = iota // not connected yet
	qpRTS                   // connected
	qpError                 // everything is flushed
	qpClosed                // destroyed
)

// QP is a queue pair. Its lock is that of its home CQ.
type QP struct {
	dev    *Device
	conn   *Conn
	num    uint32
	cap    verbs.QPCap
	home   *CQ // where it receives
	sendCQ *CQ

	token   uint64 // in the home's epoll instance
	fd      int
	state   qpState
	pending bool // in home.pending
	cause   fault
	crc     bool
	ird     int // Reads by the peer at a time
	ord     int // Reads of ours at a time

	sq sendQueue
	rq recvQueue
	tx transmitter
	rx receiver
}

var _ verbs.QP = (*QP)(nil)

// newQP makes the queue pair of conn, in state idle.
func newQP(conn *Conn, cfg verbs.QPConfig) (*QP, error) {
	send, ok1 := cfg.SendCQ.(*CQ)
	recv, ok2 := cfg.RecvCQ.(*CQ)
	if !ok1 || !ok2 || send.dev != conn.dev || recv.dev != conn.dev {
		return nil, errors.New("softiwarp: completion queue is not of this device")
	}
	q := &QP{dev: conn.dev, conn: conn, home: recv, sendCQ: send, fd: -1, cause: noFault}
	if err := q.size(cfg.QPCap); err != nil {
		return nil, err
	}
	if conn.dev.qps.Add(1) > maxQP {
		conn.dev.qps.Add(-1)
		return nil, errors.New("softiwarp: too many queue pairs")
	}
	if send != recv {
		if err := send.addFeed(recv); err != nil {
			conn.dev.qps.Add(-1)
			return nil, err
		}
	}
	// 24 bits, 0 and 1 are special in InfiniBand. Numbers repeat after 16
	// million queue pairs.
	q.num = 2 + conn.dev.nextQPN.Add(1)%(1<<24-2)
	q.tx.init()
	q.rx.init()
	return q, nil
}

// size checks and grants the queue sizes.
func (q *QP) size(c verbs.QPCap) error {
	if c.MaxSendWR < 1 || c.MaxRecvWR < 1 || c.MaxSendWR > maxWR || c.MaxRecvWR > maxWR {
		return fmt.Errorf("softiwarp: queues of %d and %d work requests: out of range 1 to %d", c.MaxSendWR, c.MaxRecvWR, maxWR)
	}
	if c.MaxSendSGE < 0 || c.MaxRecvSGE < 0 || c.MaxSendSGE > maxSGE || c.MaxRecvSGE > maxSGE {
		return fmt.Errorf("softiwarp: %d and %d SGEs: out of range 0 to %d", c.MaxSendSGE, c.MaxRecvSGE, maxSGE)
	}
	if c.MaxInline < 0 || c.MaxInline > maxInline {
		return fmt.Errorf("softiwarp: %d bytes inline: out of range 0 to %d", c.MaxInline, maxInline)
	}
	c.MaxSendSGE, c.MaxRecvSGE = max(c.MaxSendSGE, 1), max(c.MaxRecvSGE, 1)
	q.cap = c
	q.sq.init(c)
	q.rq.init(c)
	return nil
}

// Num implements verbs.QP.
func (q *QP) Num() uint32 { return q.num }

// Cap implements verbs.QP.
func (q *QP) Cap() verbs.QPCap { return q.cap }

// PostSend implements verbs.QP. It is sent in the next Poll of the receive CQ,
// or at once when much is queued. Before the connection is established, and on
// the passive side before the peer has sent, work requests wait.
func (q *QP) PostSend(wr []verbs.SendWR) (int, error) {
	q.home.mu.Lock()
	defer q.home.leave()
	for i := range wr {
		if err := q.postSend(&wr[i]); err != nil {
			q.posted()
			return i, err
		}
	}
	q.posted()
	if q.tx.queued >= sendEarly && q.state == qpRTS && q.tx.open && !q.tx.blocked {
		q.home.current = q
		q.transmit()
		q.home.current = nil
	}
	return len(wr), nil
}

// sendEarly is how many bytes of data are queued until they are sent at once: the
// peer can work on them while the rest of a batch is done here.
const sendEarly = 32 << 10

// posted has the send queue worked on.
func (q *QP) posted() {
	switch q.state {
	case qpError:
		q.flushSends()
	case qpClosed:
	default:
		q.home.pend(q)
	}
}

var (
	errOp      = errors.New("softiwarp: not an operation of the send queue")
	errSGEs    = errors.New("softiwarp: too many SGEs")
	errInline  = errors.New("softiwarp: too much inline data, or inline data of an RDMA Read")
	errMessage = errors.New("softiwarp: message too long")
)

func (q *QP) postSend(wr *verbs.SendWR) error {
	if q.state == qpClosed {
		return errGone
	}
	if wr.Op < verbs.OpSend || wr.Op > verbs.OpLocalInv {
		return errOp
	}
	if len(wr.SG) > q.cap.MaxSendSGE {
		return errSGEs
	}
	total := 0
	for i := range wr.SG {
		total += int(wr.SG[i].Len)
	}
	if total > maxMessage {
		return errMessage
	}
	inline := wr.Flags&verbs.SendInline != 0
	if inline && (total > q.cap.MaxInline || wr.Op == verbs.OpRead) {
		return errInline
	}
	w := q.sq.push()
	if w == nil {
		return verbs.ErrQueueFull
	}
	w.id, w.op, w.flags = wr.ID, wr.Op, wr.Flags
	w.raddr, w.rkey, w.invKey = wr.RAddr, wr.RKey, wr.InvKey
	w.length = uint32(total)
	if wr.Op != verbs.OpRead {
		q.tx.queued += total
	}
	if inline {
		w.takeInline(wr.SG)
		return nil
	}
	w.sge = append(w.sge[:0], wr.SG...)
	return nil
}

// PostRecv implements verbs.QP.
func (q *QP) PostRecv(wr []verbs.RecvWR) (int, error) {
	q.home.mu.Lock()
	defer q.home.mu.Unlock()
	for i := range wr {
		if q.state == qpClosed {
			return i, errGone
		}
		if len(wr[i].SG) > q.cap.MaxRecvSGE {
			return i, errSGEs
		}
		w := q.rq.push()
		if w == nil {
			return i, verbs.ErrQueueFull
		}
		w.id, w.length = wr[i].ID, 0
		w.sge = append(w.sge[:0], wr[i].SG...)
		for j := range w.sge {
			w.length += uint64(w.sge[j].Len)
		}
		if q.state == qpError {
			q.flushRecvs()
		}
	}
	return len(wr), nil
}

var errBind = errors.New("softiwarp: window cannot be bound like this")

// Bind implements verbs.QP.
func (q *QP) Bind(w verbs.Window, mr verbs.MR, mem []byte, acc verbs.Access, id uint64, flags verbs.SendFlags) (uint32, error) {
	win, ok1 := w.(*Window)
	m, ok2 := mr.(*MR)
	if !ok1 || !ok2 || win.dev != q.dev || m.dev != q.dev {
		return 0, errBind
	}
	has := m.region.acc
	if has&verbs.AccessBind == 0 || acc&^(verbs.AccessRemoteRead|verbs.AccessRemoteWrite) != 0 ||
		(acc&verbs.AccessRemoteWrite != 0 && has&verbs.AccessLocalWrite == 0) {
		return 0, errBind
	}
	if len(mem) == 0 || m.region.at(verbs.Addr(mem), len(mem)) == nil {
		return 0, errBind
	}
	q.home.mu.Lock()
	defer q.home.mu.Unlock()
	if q.state == qpClosed {
		return 0, errGone
	}
	wr := q.sq.push()
	if wr == nil {
		return 0, verbs.ErrQueueFull
	}
	wr.id, wr.op, wr.flags, wr.length = id, verbs.OpBind, flags, 0
	wr.window, wr.region = win, win.prepare(q, m, mem, acc)
	q.posted()
	return wr.region.stag, nil
}

// ToError implements verbs.QP. The connection ends with it.
func (q *QP) ToError() error {
	q.home.mu.Lock()
	defer q.home.mu.Unlock()
	q.disconnect()
	return nil
}

// start makes the connected socket fd the queue pair's. open says whether
// sends may go out before the peer has sent.
func (q *QP) start(fd int, n negotiated) error {
	q.home.mu.Lock()
	defer q.home.mu.Unlock()
	if q.state != qpIdle {
		return errGone
	}
	q.fd, q.crc, q.ird, q.ord = fd, n.crc, n.ird, n.ord
	q.tx.open = n.active
	q.tx.respond(max(n.ird, 1))
	q.sq.maxReads(n.ord)
	q.rx.zeroFPDU = n.rtr == rtrFPDU && !n.active
	q.rx.start(n.crc)
	q.token = q.conn.cm.newToken()
	if err := q.home.attach(q); err != nil {
		return err
	}
	q.state = qpRTS
	if n.active && n.rtr != 0 {
		q.readyToReceive(n.rtr)
	}
	q.home.pend(q)
	return nil
}

// destroy ends the queue pair. After it nothing uses the memory of work
// requests.
func (q *QP) destroy() {
	q.home.mu.Lock()
	q.disconnect()
	if q.fd >= 0 {
		q.transmit()
		q.discard()
		q.home.detachQP(q)
		q.fd = -1
	}
	q.tx.drop()
	q.state = qpClosed
	if q.pending {
		q.home.unpend(q)
	}
	q.home.mu.Unlock()
	if q.sendCQ != q.home {
		q.sendCQ.dropFeed(q.home)
	}
	q.dev.qps.Add(-1)
}

func (c *CQ) unpend(q *QP) {
	q.pending = false
	for i, p := range c.pending {
		if p == q {
			c.pending = append(c.pending[:i], c.pending[i+1:]...)
			return
		}
	}
}

// shut tells the peer that nothing more comes.
func (q *QP) shut() {
	if q.fd >= 0 && !q.tx.shut {
		q.tx.shut = true
		_ = unix.Shutdown(q.fd, unix.SHUT_WR)
	}
}
