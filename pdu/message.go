package pdu

// Message is the header of one kind of PDU as a struct. It is implemented by
// pointers to the structs of this package and by nothing else in this project.
type Message interface {
	// Opcode returns the opcode of this kind of PDU.
	Opcode() Opcode
	// Encode writes all 48 bytes of h: reserved bits are zero. Lengths out of
	// the range of their fields are cut as BHS.SetDataSegmentLength and
	// BHS.SetTotalAHSLength say. It doesn't allocate.
	Encode(h *BHS)
	// Decode reads h. It ignores reserved bits and assigns the receiver only
	// when it returns nil; an error is a *ProtocolError. It doesn't keep h and
	// doesn't allocate on success.
	Decode(h *BHS) error
}

// New returns an empty message for the opcode, or nil when RFC 7143 has none.
// It allocates: hot paths use the structs directly.
func New(op Opcode) Message {
	switch op {
	case OpNOPOut:
		return new(NOPOut)
	case OpSCSICommand:
		return new(SCSICommand)
	case OpTaskManagementRequest:
		return new(TaskManagementRequest)
	case OpLoginRequest:
		return new(LoginRequest)
	case OpTextRequest:
		return new(TextRequest)
	case OpDataOut:
		return new(DataOut)
	case OpLogoutRequest:
		return new(LogoutRequest)
	case OpSNACK:
		return new(SNACK)
	case OpNOPIn:
		return new(NOPIn)
	case OpSCSIResponse:
		return new(SCSIResponse)
	case OpTaskManagementResponse:
		return new(TaskManagementResponse)
	case OpLoginResponse:
		return new(LoginResponse)
	case OpTextResponse:
		return new(TextResponse)
	case OpDataIn:
		return new(DataIn)
	case OpLogoutResponse:
		return new(LogoutResponse)
	case OpR2T:
		return new(R2T)
	case OpAsyncMessage:
		return new(AsyncMessage)
	case OpReject:
		return new(Reject)
	}
	return nil
}

// Decode returns the header as the struct of its opcode. It returns owned
// memory and is meant for traces, tools and tests; hot paths switch on the
// opcode and use the Decode methods.
func Decode(h *BHS) (Message, error) {
	m := New(h.Opcode())
	if m == nil {
		return nil, protocolErrorf(RejectCommandNotSupported, "unknown opcode %s", h.Opcode())
	}
	if err := m.Decode(h); err != nil {
		return nil, err
	}
	return m, nil
}
