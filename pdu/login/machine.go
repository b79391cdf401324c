package login

import (
	"crypto/rand"
	"errors"
	"fmt"
	"io"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/chap"
)

// Bounds of one login, so that a peer that has proved nothing costs little.
const (
	// MaxRequests is how many PDUs one login may take.
	MaxRequests = 20
	// MaxText is how many bytes of text one login may send, in all its PDUs.
	MaxText = 64 << 10
	// MaxKeys is how many key=value pairs one login may send.
	MaxKeys = 128
	// MaxResponseData is the longest data segment that the machine sends, in
	// bytes: the default MaxRecvDataSegmentLength, which holds until the login
	// phase is over, RFC 7143 §13.12. Longer answers are split by the C bit.
	MaxResponseData = defaultRecv
)

// State says what the owner of a [Machine] does next.
type State uint8

const (
	// Continue means: send the response and wait for the next Login Request.
	Continue State = iota
	// Admit means: everything is negotiated and the initiator asks for
	// FullFeaturePhase. There is nothing to send yet: admit the session, then
	// call exactly one of Admitted and Refuse.
	Admit
	// FullFeature means: send the response; the connection is in FullFeaturePhase
	// after it.
	FullFeature
	// Failed means: send the response if Send says so, then close the connection.
	Failed
)

// String returns the name of the state.
func (s State) String() string {
	switch s {
	case Continue:
		return "Continue"
	case Admit:
		return "Admit"
	case FullFeature:
		return "FullFeature"
	case Failed:
		return "Failed"
	}
	return fmt.Sprintf("State(%d)", uint8(s))
}

// Reply is the outcome of one step.
type Reply struct {
	State    State
	Send     bool              // whether Response and Data are to be sent
	Response pdu.LoginResponse // DataLen is set to len(Data)
	Data     []byte            // owned by the machine, valid until its next step
	Err      *Refusal          // set when State is Failed: the reason for the operator
}

// Env is what a [Machine] needs from its surroundings.
type Env struct {
	// Rand is where challenges come from; nil means crypto/rand.Reader.
	Rand io.Reader
	// Outstanding is the set of challenges that all logins of the server share;
	// nil means a set of this login alone, which does not see a reflection over
	// another connection.
	Outstanding *chap.Outstanding
	Transport   Transport
}

// Result is what a login ended with, complete from [Admit] on.
type Result struct {
	Identity       Identity
	Params         Params
	User           string // CHAP_N that was authenticated; empty: AuthMethod=None
	PortalGroupTag uint16
	// ExpCmdSN is the CmdSN of the first non-immediate command of a new session,
	// RFC 7143 §11.12.8. In a login that joins a session (TSIH not 0) it is what
	// the request carried and says nothing: the session knows its own.
	ExpCmdSN uint32
	// MaxCmdSN closes the window that the final response opens.
	MaxCmdSN uint32
	// StatSN is the number of the next response on this connection. Read it
	// after Admitted.
	StatSN uint32
	// ExpStatSN is what the last request carried.
	ExpStatSN uint32
}

// phase is where the machine itself stands.
type phase uint8

const (
	phaseRunning  phase = iota // between Login Requests
	phaseAdmitted              // Admit was answered, the owner decides
	phaseOver                  // failed, or in FullFeaturePhase
)

// Machine is the target's side of one login phase, RFC 7143 §6.3. Create it with
// [NewMachine], one for each connection; call Close when the connection is lost
// before the machine said Failed or FullFeature. It is not safe for concurrent
// use.
type Machine struct {
	policy Policy
	env    Env
	phase  phase

	// What the first request fixed for the login, and what each request moves.
	begun     bool
	first     pdu.LoginRequest
	stage     pdu.Stage
	statSN    uint32 // of the next response
	expStatSN uint32

	requests int
	keys     int
	textSize int

	in       []byte              // text of requests with the C bit, so far
	out      []byte              // answer not sent yet
	sent     int                 // how much of out went in responses with the C bit
	unknown  map[string]struct{} // keys seen that are not in keyTable
	named    bool                // identity is known and granted
	declared bool                // our MaxRecvDataSegmentLength is out

	identity Identity
	grant    *Grant
	sec      security
	neg      negotiation
}

// NewMachine returns a machine that waits for the first Login Request.
func NewMachine(p Policy, env Env) *Machine {
	if env.Rand == nil {
		env.Rand = rand.Reader
	}
	if env.Outstanding == nil {
		env.Outstanding = new(chap.Outstanding)
	}
	m := &Machine{policy: p, env: env}
	m.neg.reset()
	return m
}

// Step takes one PDU of the login phase: header and data segment without
// padding, both borrowed. Anything but a Login Request fails the login: without
// an answer when it comes first, with "invalid during login" when it comes
// later, RFC 7143 §6.3.
func (m *Machine) Step(h *pdu.BHS, data []byte) Reply {
	if m.phase != phaseRunning {
		return m.silent(refuse(pdu.LoginInvalidRequestDuringLogin, "%v after the login phase", h.Opcode()))
	}
	var req pdu.LoginRequest
	if err := req.Decode(h); err != nil {
		r := refuse(pdu.LoginInvalidRequestDuringLogin, "%v in the login phase", h.Opcode())
		if !m.begun {
			return m.silent(r)
		}
		return m.fail(h.InitiatorTaskTag(), r)
	}
	if !m.begun {
		m.begin(&req)
	}
	m.expStatSN = req.ExpStatSN
	if r := m.checkHeader(h, &req, data); r != nil {
		return m.fail(req.InitiatorTaskTag, r)
	}
	if len(m.out) > m.sent {
		return m.goOn(&req, data)
	}
	m.in = append(m.in, data...)
	if req.Continue {
		return m.respond(pdu.LoginResponse{CSG: m.stage}, nil)
	}
	answer, r := m.process(&req, m.in)
	if r != nil {
		return m.fail(req.InitiatorTaskTag, r)
	}
	m.in = m.in[:0]
	m.out, m.sent = answer, 0
	return m.flush(&req)
}

// begin takes over what the first Login Request fixes for the whole login.
func (m *Machine) begin(req *pdu.LoginRequest) {
	m.begun = true
	m.first = *req
	m.stage = req.CSG
	m.neg.transport = m.env.Transport
	m.neg.leading = req.TSIH == 0
}

// goOn continues an answer that did not fit one response: the initiator has to
// ask for the rest with requests that carry no text, RFC 7143 §6.2.
func (m *Machine) goOn(req *pdu.LoginRequest, data []byte) Reply {
	if len(data) != 0 || req.Continue {
		return m.fail(req.InitiatorTaskTag, refuse(pdu.LoginInitiatorError, "text in a request while the target's answer goes on"))
	}
	return m.flush(req)
}

// flush sends the next piece of the answer; with the last one it follows the
// initiator to the next stage when that asks for it and nothing is open.
func (m *Machine) flush(req *pdu.LoginRequest) Reply {
	piece := m.out[m.sent:]
	if len(piece) > MaxResponseData {
		piece = piece[:MaxResponseData]
		m.sent += len(piece)
		return m.respond(pdu.LoginResponse{Continue: true, CSG: m.stage}, piece)
	}
	if !req.Transit || m.stage == pdu.SecurityNegotiation && !m.satisfied() {
		m.sent = len(m.out)
		return m.respond(pdu.LoginResponse{CSG: m.stage}, piece)
	}
	if req.NSG != pdu.FullFeaturePhase {
		m.sent = len(m.out)
		from := m.stage
		m.stage = req.NSG
		return m.respond(pdu.LoginResponse{Transit: true, CSG: from, NSG: req.NSG}, piece)
	}
	if r := m.complete(); r != nil {
		return m.fail(req.InitiatorTaskTag, r)
	}
	m.phase = phaseAdmitted
	return Reply{State: Admit}
}

// complete checks, before the session is admitted, that nothing was skipped.
func (m *Machine) complete() *Refusal {
	if !m.satisfied() {
		return refuse(pdu.LoginAuthenticationFailure, "FullFeaturePhase without authentication")
	}
	if m.env.Transport == ISER && !m.identity.Discovery && m.neg.leading && m.neg.num[keyRDMAExtensions] != yes {
		return refuse(pdu.LoginInitiatorError, "a normal session over iSER without RDMAExtensions=Yes")
	}
	return nil
}

// Admitted ends the login: the final response, T=1 and NSG=FullFeaturePhase,
// with the TSIH of the session (not 0). The owner may change ExpCmdSN and
// MaxCmdSN of a connection that joins a session. It panics when the machine did
// not answer Admit before.
func (m *Machine) Admitted(tsih uint16) Reply {
	m.mustBeAdmitted()
	piece := m.out[m.sent:]
	m.sent = len(m.out)
	r := m.respond(pdu.LoginResponse{Transit: true, CSG: m.stage, NSG: pdu.FullFeaturePhase}, piece)
	r.State = FullFeature
	r.Response.TSIH = tsih
	r.Response.MaxCmdSN = m.maxCmdSN()
	m.stage = pdu.FullFeaturePhase
	m.Close()
	return r
}

// Refuse ends the login after Admit with a Login Response that carries the
// refusal. It panics when the machine did not answer Admit before.
func (m *Machine) Refuse(r *Refusal) Reply {
	m.mustBeAdmitted()
	return m.fail(m.first.InitiatorTaskTag, r)
}

func (m *Machine) mustBeAdmitted() {
	if m.phase != phaseAdmitted {
		panic("login: Admitted or Refuse without Admit") // a broken owner, not bad input
	}
}

// Close gives up the login and forgets its challenge. It may be called at any
// time and more than once; Failed and FullFeature imply it.
func (m *Machine) Close() {
	m.phase = phaseOver
	if m.sec.challenge != nil {
		m.env.Outstanding.Remove(m.sec.challenge.Value)
		m.sec.challenge = nil
	}
}

// Result returns what was negotiated. It is complete from Admit on; of a login
// that failed before, it tells the identity as far as that was known.
func (m *Machine) Result() Result {
	r := Result{
		Identity:  m.identity,
		User:      m.sec.user,
		ExpCmdSN:  m.first.CmdSN,
		MaxCmdSN:  m.maxCmdSN(),
		StatSN:    m.statSN,
		ExpStatSN: m.expStatSN,
	}
	ourRecv := defaultRecv
	if m.declared {
		ourRecv = m.grant.Limits.MaxRecvDataSegmentLength
	}
	r.Params = m.neg.params(ourRecv)
	if m.grant != nil {
		r.PortalGroupTag = m.grant.PortalGroupTag
	}
	return r
}

// maxCmdSN is the end of the window that the final response opens.
func (m *Machine) maxCmdSN() uint32 {
	if m.grant == nil {
		return m.first.CmdSN
	}
	return m.first.CmdSN + uint32(m.grant.Limits.CommandWindow) - 1
}

// respond fills in what is the same in every response. TSIH is the initiator's
// until the final response, RFC 7143 §11.13.3. During the phase the window holds
// one command: nothing but immediate Login Requests may come.
func (m *Machine) respond(r pdu.LoginResponse, data []byte) Reply {
	r.ISID = m.first.ISID
	r.TSIH = m.first.TSIH
	r.InitiatorTaskTag = m.first.InitiatorTaskTag
	r.StatSN = m.statSN
	r.ExpCmdSN = m.first.CmdSN
	r.MaxCmdSN = m.first.CmdSN
	r.DataLen = len(data)
	m.statSN++
	return Reply{Send: true, Response: r, Data: data}
}

// fail ends the login with a Login Response; tag is that of the request.
func (m *Machine) fail(tag uint32, r *Refusal) Reply {
	m.Close()
	if r.Status == pdu.LoginSuccess {
		r = &Refusal{Status: pdu.LoginTargetError, Reason: r.Reason}
	}
	var data []byte
	if r.Status.Class() == pdu.ClassRedirection && r.RedirectAddress != "" {
		data = appendPair(nil, keyTargetAddress, r.RedirectAddress)
	}
	stage := m.stage
	if stage > pdu.LoginOperational {
		stage = pdu.SecurityNegotiation // the first request named a stage that there is not
	}
	reply := m.respond(pdu.LoginResponse{CSG: stage, Status: r.Status}, data)
	reply.Response.InitiatorTaskTag = tag
	reply.State = Failed
	reply.Err = r
	return reply
}

// silent ends the login without an answer.
func (m *Machine) silent(r *Refusal) Reply {
	m.Close()
	return Reply{State: Failed, Err: r}
}

// asRefusal turns an error of a Policy into a Refusal.
func asRefusal(err error) *Refusal {
	var r *Refusal
	if errors.As(err, &r) && r != nil {
		return r
	}
	return refuse(pdu.LoginTargetError, "%v", err)
}
