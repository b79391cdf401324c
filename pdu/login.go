package pdu

import "fmt"

// Login Request, RFC 7143 §11.12
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|1| 0x03      |T|C|.|.|CSG|NSG| Version-max   | Version-min   |
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| ISID                                                          |
//	  12|                               | TSIH                          |
//	  16| Initiator Task Tag                                            |
//	  20| CID                           | Reserved                      |
//	  24| CmdSN                                                         |
//	  28| ExpStatSN or Reserved                                         |
//	  32| Reserved                                                      |
//
// Login Response, RFC 7143 §11.13
//
//	Byte/     0       |       1       |       2       |       3       |
//	   0|.|.| 0x23      |T|C|.|.|CSG|NSG| Version-max   | Version-active|
//	   4|TotalAHSLength | DataSegmentLength                             |
//	   8| ISID                                                          |
//	  12|                               | TSIH                          |
//	  16| Initiator Task Tag                                            |
//	  20| Reserved                                                      |
//	  24| StatSN                                                        |
//	  28| ExpCmdSN                                                      |
//	  32| MaxCmdSN                                                      |
//	  36| Status-Class  | Status-Detail | Reserved                      |
//	  40| Reserved                                                      |

const (
	transitFlag = 0x80 // byte 1 of Login PDUs, T bit
	stageMask   = 0x03
	csgShift    = 2
)

// Version is the only version of the protocol, RFC 7143 §11.12.4.
const Version uint8 = 0x00

// Stage is a stage of the Login Phase, RFC 7143 §11.12.3. Value 2 is reserved.
type Stage uint8

// Stages, RFC 7143 §11.12.3.
const (
	SecurityNegotiation Stage = 0
	LoginOperational    Stage = 1 // LoginOperationalNegotiation
	FullFeaturePhase    Stage = 3
)

// String returns the name in RFC 7143, or the number of another value.
func (s Stage) String() string {
	switch s {
	case SecurityNegotiation:
		return "SecurityNegotiation"
	case LoginOperational:
		return "LoginOperationalNegotiation"
	case FullFeaturePhase:
		return "FullFeaturePhase"
	}
	return fmt.Sprintf("Stage(%d)", uint8(s))
}

// ISID is the initiator part of a session identifier, RFC 7143 §11.12.5.
type ISID [6]byte

// String returns the twelve hex digits of the ISID.
func (i ISID) String() string { return fmt.Sprintf("%x", i[:]) }

// LoginRequest is a Login Request, RFC 7143 §11.12. It is always immediate. Its
// data segment is key=value text, see pdu/text.
type LoginRequest struct {
	Transit                bool  // the T bit: ready to go on to NSG
	Continue               bool  // the C bit: the text goes on in the next request
	CSG, NSG               Stage // NSG is reserved unless Transit
	VersionMax, VersionMin uint8
	ISID                   ISID
	TSIH                   uint16 // 0 for a new session
	InitiatorTaskTag       uint32
	CID                    uint16
	CmdSN, ExpStatSN       uint32
	DataLen                int // bytes without padding
}

// Opcode returns OpLoginRequest.
func (*LoginRequest) Opcode() Opcode { return OpLoginRequest }

// Encode writes r to h.
func (r *LoginRequest) Encode(h *BHS) {
	h.start(OpLoginRequest, loginFlags(r.Transit, r.Continue, r.CSG, r.NSG))
	h.SetImmediate(true)
	h[2] = r.VersionMax
	h[3] = r.VersionMin
	h.SetDataSegmentLength(r.DataLen)
	*(*ISID)(h[8:]) = r.ISID
	h.put16(14, r.TSIH)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.put16(20, r.CID)
	h.SetCmdSN(r.CmdSN)
	h.SetExpStatSN(r.ExpStatSN)
}

// Decode reads r from h.
func (r *LoginRequest) Decode(h *BHS) error {
	if err := h.expect(OpLoginRequest); err != nil {
		return err
	}
	*r = LoginRequest{
		Transit:          h[1]&transitFlag != 0,
		Continue:         h[1]&continueFlag != 0,
		CSG:              Stage(h[1] >> csgShift & stageMask),
		NSG:              Stage(h[1] & stageMask),
		VersionMax:       h[2],
		VersionMin:       h[3],
		ISID:             ISID(h[8:]),
		TSIH:             h.get16(14),
		InitiatorTaskTag: h.InitiatorTaskTag(),
		CID:              h.get16(20),
		CmdSN:            h.CmdSN(),
		ExpStatSN:        h.ExpStatSN(),
		DataLen:          h.DataSegmentLength(),
	}
	return nil
}

// LoginResponse is a Login Response, RFC 7143 §11.13. Its data segment is
// key=value text, see pdu/text.
type LoginResponse struct {
	Transit                    bool  // the T bit: the stage changes to NSG
	Continue                   bool  // the C bit: the text goes on in the next response
	CSG, NSG                   Stage // NSG is reserved unless Transit
	VersionMax, VersionActive  uint8
	ISID                       ISID
	TSIH                       uint16 // in the final response: the session's
	InitiatorTaskTag           uint32
	StatSN, ExpCmdSN, MaxCmdSN uint32 // valid only when Status is LoginSuccess
	Status                     LoginStatus
	DataLen                    int // bytes without padding
}

// Opcode returns OpLoginResponse.
func (*LoginResponse) Opcode() Opcode { return OpLoginResponse }

// Encode writes r to h.
func (r *LoginResponse) Encode(h *BHS) {
	h.start(OpLoginResponse, loginFlags(r.Transit, r.Continue, r.CSG, r.NSG))
	h[2] = r.VersionMax
	h[3] = r.VersionActive
	h.SetDataSegmentLength(r.DataLen)
	*(*ISID)(h[8:]) = r.ISID
	h.put16(14, r.TSIH)
	h.SetInitiatorTaskTag(r.InitiatorTaskTag)
	h.putStatus(r.StatSN, r.ExpCmdSN, r.MaxCmdSN)
	h.put16(36, uint16(r.Status))
}

// Decode reads r from h.
func (r *LoginResponse) Decode(h *BHS) error {
	if err := h.expect(OpLoginResponse); err != nil {
		return err
	}
	*r = LoginResponse{
		Transit:          h[1]&transitFlag != 0,
		Continue:         h[1]&continueFlag != 0,
		CSG:              Stage(h[1] >> csgShift & stageMask),
		NSG:              Stage(h[1] & stageMask),
		VersionMax:       h[2],
		VersionActive:    h[3],
		ISID:             ISID(h[8:]),
		TSIH:             h.get16(14),
		InitiatorTaskTag: h.InitiatorTaskTag(),
		StatSN:           h.StatSN(),
		ExpCmdSN:         h.ExpCmdSN(),
		MaxCmdSN:         h.MaxCmdSN(),
		Status:           LoginStatus(h.get16(36)),
		DataLen:          h.DataSegmentLength(),
	}
	return nil
}

func loginFlags(transit, cont bool, csg, nsg Stage) byte {
	return flag(transitFlag, transit) | flag(continueFlag, cont) | byte(csg)&stageMask<<csgShift | byte(nsg)&stageMask
}
