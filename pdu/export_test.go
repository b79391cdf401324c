package pdu

// Opcodes lists every opcode of RFC 7143 for the tests.
var Opcodes = []Opcode{
	OpNOPOut, OpSCSICommand, OpTaskManagementRequest, OpLoginRequest, OpTextRequest, OpDataOut,
	OpLogoutRequest, OpSNACK, OpNOPIn, OpSCSIResponse, OpTaskManagementResponse, OpLoginResponse,
	OpTextResponse, OpDataIn, OpLogoutResponse, OpR2T, OpAsyncMessage, OpReject,
}
