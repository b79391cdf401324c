package initiator

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"strings"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/login"
	"github.com/iserd/iserd/pdu/text"
)

// LoginError is a login that the target refused: a Login Response whose
// Status-Class is not 0, RFC 7143 §11.13.5.
type LoginError struct {
	Status pdu.LoginStatus
	// TargetAddress is where a redirection (class 1) points.
	TargetAddress string
}

// Error names the status.
func (e *LoginError) Error() string {
	if e.TargetAddress != "" {
		return fmt.Sprintf("initiator: login redirected to %s: %v", e.TargetAddress, e.Status)
	}
	return fmt.Sprintf("initiator: login refused: %v", e.Status)
}

// LoginResult is a finished login phase.
type LoginResult struct {
	Params               login.Params
	ISID                 pdu.ISID
	TSIH                 uint16
	CID                  uint16
	TargetAlias          string
	TargetPortalGroupTag string
	// Answers are all pairs the target sent, in order.
	Answers []text.Pair

	// Numbers to go on with, §4.2.2: CmdSN of the first non-immediate
	// command, next expected StatSN, and the target's command window.
	CmdSN, ExpStatSN, ExpCmdSN, MaxCmdSN uint32
}

const (
	maxLoginRounds  = 32
	maxLoginText    = 8192 // MaxRecvDataSegmentLength's default holds during login, §13.12
	firstCmdSN      = 1
	loginTag        = 0x10000000
	maxTextPerReply = 64 << 10
)

// handshake holds what lives only during the login phase.
type handshake struct {
	c     *Conn
	o     Options
	stage pdu.Stage
	res   LoginResult
	last  bool // the target has agreed to the full feature phase
}

// Negotiate takes c through the login phase as o says, bounded by ctx and
// o.Timeout. On success c uses the negotiated digests. On error the connection
// is of no more use; the caller closes it.
func Negotiate(ctx context.Context, c *Conn, o Options) (*LoginResult, error) {
	o = o.withDefaults()
	if o.ISID == (pdu.ISID{}) {
		o.ISID = RandomISID()
	}
	ctx, cancel := context.WithTimeout(ctx, o.Timeout)
	defer cancel()
	h := &handshake{c: c, o: o, stage: pdu.SecurityNegotiation}
	h.res.ISID, h.res.CID, h.res.CmdSN = o.ISID, o.CID, firstCmdSN
	err := c.interruptible(ctx, h.run)
	if err != nil {
		return nil, err
	}
	c.SetMaxRecv(o.MaxRecvDataSegmentLength)
	c.SetDigests(h.res.Params.HeaderDigest, h.res.Params.DataDigest)
	return &h.res, nil
}

// RandomISID returns an ISID of the "random" format, §11.12.5: T = 10b.
func RandomISID() pdu.ISID {
	var id pdu.ISID
	_, _ = rand.Read(id[:]) // never fails since Go 1.24
	id[0] = 0x80
	return id
}

// run reads as §6.3 does: security negotiation, then operational parameters.
func (h *handshake) run() error {
	if err := h.security(); err != nil {
		return err
	}
	return h.operational()
}

// operational negotiates the keys of §13 until the target agrees to the full
// feature phase.
func (h *handshake) operational() error {
	offer := offeredPairs(&h.o)
	pairs := append(append([]text.Pair(nil), offer...), h.o.Extra...)
	var answers []text.Pair
	for range maxLoginRounds {
		got, err := h.exchange(pairs, pdu.FullFeaturePhase)
		if err != nil {
			return err
		}
		answers = append(answers, got...)
		if h.last {
			return h.finish(answers)
		}
		pairs = replies(offer, got)
	}
	return errors.New("initiator: target does not come to an end of the login phase")
}

// finish turns the answers into Params.
func (h *handshake) finish(answers []text.Pair) error {
	p, err := applyAnswers(&h.o, answers)
	if err != nil {
		return err
	}
	h.res.Params = p
	for _, a := range h.res.Answers {
		switch a.Key {
		case "TargetAlias":
			h.res.TargetAlias = a.Value
		case "TargetPortalGroupTag":
			h.res.TargetPortalGroupTag = a.Value
		}
	}
	return nil
}

// exchange sends pairs with T=1 towards stage next, or T=0 when next is the
// current stage, and returns the pairs of the whole answer. It follows the
// target's stage.
func (h *handshake) exchange(pairs []text.Pair, next pdu.Stage) ([]text.Pair, error) {
	var data []byte
	for _, p := range pairs {
		data = text.Append(data, p.Key, p.Value)
	}
	for len(data) > maxLoginText { // §6.2: the C bit
		if _, _, err := h.roundTrip(data[:maxLoginText], h.stage, true); err != nil {
			return nil, err
		}
		data = data[maxLoginText:]
	}
	var all []byte
	for range maxLoginRounds {
		resp, got, err := h.roundTrip(data, next, false)
		if err != nil {
			return nil, err
		}
		if all = append(all, got...); len(all) > maxTextPerReply {
			return nil, errors.New("initiator: login answer longer than 64 KiB")
		}
		data = nil
		if resp.Continue {
			continue
		}
		if err := h.advance(&resp, next); err != nil {
			return nil, err
		}
		answer, err := text.Parse(all)
		if err != nil {
			return nil, fmt.Errorf("initiator: login answer: %w", err)
		}
		h.res.Answers = append(h.res.Answers, answer...)
		return answer, nil
	}
	return nil, errors.New("initiator: endless login answer")
}

// advance checks the answer's stages (§11.13.3, §11.13.4) and moves on.
func (h *handshake) advance(r *pdu.LoginResponse, asked pdu.Stage) error {
	if r.CSG != h.stage {
		return fmt.Errorf("initiator: target answers in stage %v, we are in %v", r.CSG, h.stage)
	}
	if !r.Transit {
		return nil
	}
	if asked == h.stage || r.NSG <= h.stage || r.NSG > asked {
		return fmt.Errorf("initiator: target goes from stage %v to %v, we asked for %v", h.stage, r.NSG, asked)
	}
	h.stage, h.last = r.NSG, r.NSG == pdu.FullFeaturePhase
	h.res.TSIH = r.TSIH
	return nil
}

// roundTrip sends one Login Request and reads its response.
func (h *handshake) roundTrip(data []byte, next pdu.Stage, cont bool) (pdu.LoginResponse, []byte, error) {
	req := pdu.LoginRequest{
		Transit: next != h.stage && !cont, Continue: cont, CSG: h.stage,
		ISID: h.o.ISID, TSIH: h.o.TSIH, CID: h.o.CID, InitiatorTaskTag: loginTag,
		CmdSN: h.res.CmdSN, ExpStatSN: h.res.ExpStatSN, DataLen: len(data),
	}
	if req.Transit {
		req.NSG = next
	}
	var bhs pdu.BHS
	req.Encode(&bhs)
	var resp pdu.LoginResponse
	if err := h.c.WritePDU(&bhs, nil, data); err != nil {
		return resp, nil, err
	}
	p, err := h.c.ReadPDU()
	if err != nil {
		return resp, nil, fmt.Errorf("initiator: login: %w", err)
	}
	if err := resp.Decode(&p.BHS); err != nil {
		return resp, nil, fmt.Errorf("initiator: login: %w", err)
	}
	if resp.Status.Class() != 0 {
		return resp, nil, loginError(&resp, p.Data)
	}
	if resp.InitiatorTaskTag != loginTag {
		return resp, nil, fmt.Errorf("initiator: login response for tag %#x", resp.InitiatorTaskTag)
	}
	h.res.ExpStatSN = resp.StatSN + 1
	h.res.ExpCmdSN, h.res.MaxCmdSN = resp.ExpCmdSN, resp.MaxCmdSN
	return resp, p.Data, nil
}

// loginError makes an error of a refusing response; a redirection says where
// to in its text.
func loginError(r *pdu.LoginResponse, data []byte) error {
	e := &LoginError{Status: r.Status}
	if pairs, err := text.Parse(data); err == nil {
		e.TargetAddress = lookup(pairs, "TargetAddress")
	}
	return e
}

// lookup returns the value of the first pair with key, "" when there is none.
func lookup(pairs []text.Pair, key string) string {
	for _, p := range pairs {
		if p.Key == key {
			return p.Value
		}
	}
	return ""
}

// inList tells whether v is an element of the comma-separated list.
func inList(v, list string) bool {
	for e := range strings.SplitSeq(list, ",") {
		if e == v {
			return true
		}
	}
	return false
}
