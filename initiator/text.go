package initiator

import (
	"bytes"
	"context"
	"errors"
	"fmt"

	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

const (
	maxTextRounds = 1024
	maxTextBytes  = 16 << 20
)

// Text sends one Text Request with pairs (at most what the target takes in one
// PDU) and returns the pairs of the whole answer, however many responses it
// takes (§11.10, §11.11).
func (s *Session) Text(ctx context.Context, pairs []text.Pair) ([]text.Pair, error) {
	var data []byte
	for _, p := range pairs {
		data = text.Append(data, p.Key, p.Value)
	}
	var all []byte
	// Immediate: tgt closes the command window while an answer is unfinished.
	req := pdu.TextRequest{Immediate: true, Final: true, TargetTransferTag: pdu.ReservedTag}
	var tag uint32
	for range maxTextRounds {
		t := newTask(s)
		t.tag = tag // a continued exchange keeps its tag
		p, err := s.textRound(ctx, t, req, data)
		if err != nil {
			return nil, err
		}
		var r pdu.TextResponse
		if err := r.Decode(&p.BHS); err != nil {
			return nil, err
		}
		if all = append(all, p.Data...); len(all) > maxTextBytes {
			return nil, errors.New("initiator: text answer longer than 16 MiB")
		}
		if r.Final {
			return parseText(all)
		}
		if r.TargetTransferTag == pdu.ReservedTag {
			return nil, violation("Text Response without F bit and without TargetTransferTag")
		}
		// §11.10.4: go on with the target's tag and an empty request.
		req.TargetTransferTag, req.LUN = r.TargetTransferTag, r.LUN
		data, tag = nil, t.tag
	}
	return nil, errors.New("initiator: endless text answer")
}

func (s *Session) textRound(ctx context.Context, t *Task, req pdu.TextRequest, data []byte) (*PDU, error) {
	err := s.start(ctx, t, request{immediate: true, data: data, encode: func(h *pdu.BHS, tag, cmdSN, expStatSN uint32) {
		req.InitiatorTaskTag, req.CmdSN, req.ExpStatSN, req.DataLen = tag, cmdSN, expStatSN, len(data)
		req.Encode(h)
	}})
	if err != nil {
		return nil, err
	}
	select {
	case <-t.done:
		return t.reply, t.err
	case <-ctx.Done():
		return nil, context.Cause(ctx)
	}
}

// parseText reads an answer of any number of pairs: text.Parse has a limit that
// is right for a login but not for a list of targets.
func parseText(b []byte) ([]text.Pair, error) {
	var pairs []text.Pair
	for line := range bytes.SplitAfterSeq(b, []byte{0}) {
		one, err := text.Parse(line)
		if err != nil {
			return nil, fmt.Errorf("initiator: text answer: %w", err)
		}
		pairs = append(pairs, one...)
	}
	return pairs, nil
}

// Target is one target of a SendTargets answer, RFC 7143 appendix C.
type Target struct {
	Name      string
	Addresses []TargetAddress
}

// TargetAddress is one TargetAddress value: address and portal group tag.
type TargetAddress struct {
	Address        string // host:port as the target wrote it
	PortalGroupTag string
}

// SendTargets asks for the targets: which is "All" in a discovery session, a
// target name, or "" for the session's own target.
func (s *Session) SendTargets(ctx context.Context, which string) ([]Target, error) {
	pairs, err := s.Text(ctx, []text.Pair{{Key: "SendTargets", Value: which}})
	if err != nil {
		return nil, err
	}
	return ParseTargets(pairs)
}

// Discover connects to addr, asks for all targets in a discovery session and
// logs out.
func Discover(ctx context.Context, addr string, o Options) ([]Target, error) {
	o.SessionType, o.TargetName = DiscoverySession, ""
	c, err := Dial(ctx, addr)
	if err != nil {
		return nil, err
	}
	s, err := Login(ctx, c, o)
	if err != nil {
		return nil, err
	}
	targets, err := s.SendTargets(ctx, "All")
	if err != nil {
		_ = s.Close()
		return nil, err
	}
	return targets, s.Logout(ctx)
}
