package login

import (
	"github.com/iserd/iserd/pdu"
	"github.com/iserd/iserd/pdu/text"
)

// version is the one protocol version there is, RFC 7143 §11.12.4.
const version = 0x00

// checkHeader checks all of a Login Request but its text.
func (m *Machine) checkHeader(h *pdu.BHS, req *pdu.LoginRequest, data []byte) *Refusal {
	m.requests++
	m.textSize += len(data)
	switch {
	case req.VersionMin > version:
		return refuse(pdu.LoginUnsupportedVersion, "the initiator wants version %#02x at least", req.VersionMin)
	case h.TotalAHSLength() != 0:
		return refuse(pdu.LoginInitiatorError, "Login Request with AHS")
	case req.DataLen != len(data):
		return refuse(pdu.LoginInitiatorError, "DataSegmentLength %d with %d bytes", req.DataLen, len(data))
	case m.requests > MaxRequests:
		return refuse(pdu.LoginInitiatorError, "more than %d Login Requests", MaxRequests)
	case m.textSize > MaxText:
		return refuse(pdu.LoginInitiatorError, "more than %d bytes of text", MaxText)
	}
	if r := m.checkConstant(req); r != nil {
		return r
	}
	return m.checkStage(req)
}

// checkConstant refuses a request that changes what has to stay the same for the
// whole login, RFC 7143 §6.3 and §11.12.
func (m *Machine) checkConstant(req *pdu.LoginRequest) *Refusal {
	f := &m.first
	switch {
	case req.InitiatorTaskTag != f.InitiatorTaskTag:
		return refuse(pdu.LoginInitiatorError, "InitiatorTaskTag changes from %#x to %#x", f.InitiatorTaskTag, req.InitiatorTaskTag)
	case req.ISID != f.ISID:
		return refuse(pdu.LoginInitiatorError, "ISID changes from %v to %v", f.ISID, req.ISID)
	case req.TSIH != f.TSIH:
		return refuse(pdu.LoginInitiatorError, "TSIH changes from %d to %d", f.TSIH, req.TSIH)
	case req.CID != f.CID:
		return refuse(pdu.LoginInitiatorError, "CID changes from %d to %d", f.CID, req.CID)
	case req.VersionMin != f.VersionMin || req.VersionMax != f.VersionMax:
		return refuse(pdu.LoginInitiatorError, "the version range changes")
	case f.TSIH == 0 && req.CmdSN != f.CmdSN:
		// Login Requests are immediate: in a new session nothing moves CmdSN. In
		// an existing one, commands on other connections may.
		return refuse(pdu.LoginInitiatorError, "CmdSN changes from %d to %d", f.CmdSN, req.CmdSN)
	}
	return nil
}

// checkStage refuses stages and transitions that RFC 7143 §6.3 and §11.12.1 to
// §11.12.3 do not have. Without the T bit NSG is reserved and not looked at.
func (m *Machine) checkStage(req *pdu.LoginRequest) *Refusal {
	switch {
	case req.CSG != pdu.SecurityNegotiation && req.CSG != pdu.LoginOperational:
		return refuse(pdu.LoginInitiatorError, "CSG %v", req.CSG)
	case req.CSG != m.stage:
		return refuse(pdu.LoginInitiatorError, "CSG %v in stage %v", req.CSG, m.stage)
	case req.Transit && req.Continue:
		return refuse(pdu.LoginInitiatorError, "T and C bit together")
	case req.Transit && req.NSG != pdu.LoginOperational && req.NSG != pdu.FullFeaturePhase:
		return refuse(pdu.LoginInitiatorError, "NSG %v", req.NSG)
	case req.Transit && req.NSG <= req.CSG:
		return refuse(pdu.LoginInitiatorError, "transition from %v to %v", req.CSG, req.NSG)
	}
	return nil
}

// process handles the text of one complete request and returns the answer.
func (m *Machine) process(req *pdu.LoginRequest, data []byte) ([]byte, *Refusal) {
	list, security, r := m.parse(data)
	if r != nil {
		return nil, r
	}
	var answer []byte
	if !m.named {
		if answer, r = m.identify(req, list); r != nil {
			return nil, r
		}
	}
	if m.stage == pdu.SecurityNegotiation {
		if answer, r = m.authenticate(answer, security, req.Transit); r != nil {
			return nil, r
		}
	}
	answer = m.neg.answers(answer, list)
	return m.declare(answer, req), nil
}

// parse splits the text into pairs and refuses what no stage allows: a key for
// the second time (RFC 7143 §6.3), security keys outside their stage (§12), a
// late statement of who logs in to what (§13.4, §13.5), too many keys.
func (m *Machine) parse(data []byte) ([]offered, *securityKeys, *Refusal) {
	pairs, err := text.Parse(data)
	if err != nil {
		return nil, nil, refuse(pdu.LoginInitiatorError, "%v", err)
	}
	if m.keys += len(pairs); m.keys > MaxKeys {
		return nil, nil, refuse(pdu.LoginInitiatorError, "more than %d keys", MaxKeys)
	}
	list := make([]offered, 0, len(pairs))
	security := new(securityKeys)
	for _, p := range pairs {
		o := offered{name: p.Key, value: p.Value}
		o.id, o.known = lookupKey(p.Key)
		if !m.firstTime(&o) {
			return nil, nil, refuse(pdu.LoginInitiatorError, "key %s for the second time", p.Key)
		}
		if m.named && o.identifies() {
			return nil, nil, refuse(pdu.LoginInitiatorError, "key %s after the first request", p.Key)
		}
		if o.known && keyTable[o.id].use == useSecurity {
			if m.stage != pdu.SecurityNegotiation {
				return nil, nil, refuse(pdu.LoginInitiatorError, "key %s in stage %v", p.Key, m.stage)
			}
			security.has[o.id], security.value[o.id] = true, p.Value
		}
		list = append(list, o)
	}
	return list, security, nil
}

// identifies reports whether the key says who logs in to what.
func (o *offered) identifies() bool {
	return o.known && (o.id == keyInitiatorName || o.id == keyTargetName || o.id == keySessionType)
}

// firstTime notes a key and reports whether it is new in this login.
func (m *Machine) firstTime(o *offered) bool {
	if o.known {
		seen := m.neg.seen[o.id]
		m.neg.seen[o.id] = true
		return !seen
	}
	if _, seen := m.unknown[o.name]; seen {
		return false
	}
	if m.unknown == nil {
		m.unknown = make(map[string]struct{})
	}
	m.unknown[o.name] = struct{}{}
	return true
}

// identify reads who logs in to what from the first complete request, asks the
// policy, and appends what the target says of itself in its first answer.
func (m *Machine) identify(req *pdu.LoginRequest, list []offered) ([]byte, *Refusal) {
	id := Identity{ISID: req.ISID, TSIH: req.TSIH, CID: req.CID}
	sessionType := keyTable[keySessionType].list
	for _, o := range list {
		if !o.known {
			continue
		}
		switch o.id {
		case keyInitiatorName:
			id.InitiatorName = o.value
		case keyInitiatorAlias:
			id.InitiatorAlias = o.value
		case keyTargetName:
			id.TargetName = o.value
		case keySessionType:
			sessionType = o.value
		default:
		}
	}
	id.Discovery = sessionType == discovery
	m.identity = id
	if r := checkIdentity(&id, sessionType); r != nil {
		return nil, r
	}
	grant, err := m.policy.Authorize(id)
	if err != nil {
		return nil, asRefusal(err)
	}
	if grant == nil {
		return nil, refuse(pdu.LoginTargetError, "the policy grants nothing")
	}
	if err := grant.Limits.Validate(); err != nil {
		return nil, refuse(pdu.LoginTargetError, "%v", err)
	}
	if grant.Auth.Required && m.stage != pdu.SecurityNegotiation {
		return nil, refuse(pdu.LoginAuthenticationFailure, "the login starts in %v, CHAP is required", m.stage)
	}
	m.named, m.grant = true, grant
	m.neg.limits, m.neg.discovery = &grant.Limits, id.Discovery
	return m.introduce(nil), nil
}

// checkIdentity refuses a first request that does not say who logs in to what:
// InitiatorName in every login (RFC 7143 §13.5), TargetName unless the session
// is for discovery (§13.4).
func checkIdentity(id *Identity, sessionType string) *Refusal {
	wrong := checkName(id.InitiatorName)
	switch {
	case sessionType != "Normal" && sessionType != discovery:
		return refuse(pdu.LoginSessionTypeNotSupported, "SessionType=%q", sessionType)
	case id.InitiatorName == "":
		return refuse(pdu.LoginMissingParameter, "the first request has no InitiatorName")
	case id.TargetName == "" && !id.Discovery:
		return refuse(pdu.LoginMissingParameter, "the first request has no TargetName")
	case len(id.InitiatorAlias) > text.MaxSimpleValueLen:
		return refuse(pdu.LoginInitiatorError, "InitiatorAlias of %d bytes", len(id.InitiatorAlias))
	case wrong != nil:
		return refuse(pdu.LoginInitiatorError, "InitiatorName=%q is not an iSCSI name: %v", id.InitiatorName, wrong)
	case len(id.TargetName) > maxName || !plain(id.TargetName):
		// Of what type it is does not matter: there are no targets of other types.
		return refuse(pdu.LoginTargetNotFound, "TargetName=%q is not an iSCSI name", id.TargetName)
	}
	return nil
}

// introduce appends TargetPortalGroupTag, which "MUST be returned to the
// initiator in the Login Response PDU to the first Login Request" that has a
// TargetName (RFC 7143 §13.9), and TargetAlias when there is one.
func (m *Machine) introduce(dst []byte) []byte {
	if m.identity.Discovery {
		return dst
	}
	if m.grant.TargetAlias != "" {
		dst = appendPair(dst, keyTargetAlias, m.grant.TargetAlias)
	}
	return appendNumber(dst, keyTargetPortalGroupTag, uint32(m.grant.PortalGroupTag))
}

// declare appends our MaxRecvDataSegmentLength once, in the operational stage or
// in the answer that skips it. Over iSER the key has no meaning in a normal
// session, and libiscsi would take it for permission to send too much.
func (m *Machine) declare(dst []byte, req *pdu.LoginRequest) []byte {
	skips := req.Transit && req.NSG == pdu.FullFeaturePhase && m.satisfied()
	rdma := m.env.Transport == ISER && !m.identity.Discovery
	if m.declared || rdma || m.stage != pdu.LoginOperational && !skips {
		return dst
	}
	m.declared = true
	return appendNumber(dst, keyMaxRecvDataSegmentLength, uint32(m.grant.Limits.MaxRecvDataSegmentLength))
}
