package pdu

import "fmt"

// LoginStatus is the Status-Class (high byte) and Status-Detail (low byte) of a
// Login Response, RFC 7143 §11.13.5.
type LoginStatus uint16

// Login statuses, RFC 7143 §11.13.5.
const (
	LoginSuccess                   LoginStatus = 0x0000 // Success
	LoginTargetMovedTemporarily    LoginStatus = 0x0101 // Target moved temporarily
	LoginTargetMovedPermanently    LoginStatus = 0x0102 // Target moved permanently
	LoginInitiatorError            LoginStatus = 0x0200 // Initiator error
	LoginAuthenticationFailure     LoginStatus = 0x0201 // Authentication failure
	LoginAuthorizationFailure      LoginStatus = 0x0202 // Authorization failure
	LoginTargetNotFound            LoginStatus = 0x0203 // Not found
	LoginTargetRemoved             LoginStatus = 0x0204 // Target removed
	LoginUnsupportedVersion        LoginStatus = 0x0205 // Unsupported version
	LoginTooManyConnections        LoginStatus = 0x0206 // Too many connections
	LoginMissingParameter          LoginStatus = 0x0207 // Missing parameter
	LoginCannotIncludeInSession    LoginStatus = 0x0208 // Can't include in session
	LoginSessionTypeNotSupported   LoginStatus = 0x0209 // Session type not supported
	LoginSessionDoesNotExist       LoginStatus = 0x020a // Session does not exist
	LoginInvalidRequestDuringLogin LoginStatus = 0x020b // Invalid during login
	LoginTargetError               LoginStatus = 0x0300 // Target error
	LoginServiceUnavailable        LoginStatus = 0x0301 // Service unavailable
	LoginOutOfResources            LoginStatus = 0x0302 // Out of resources
)

// LoginStatusClass is the Status-Class of a Login Response, RFC 7143 §11.13.5.
type LoginStatusClass uint8

// Status classes, RFC 7143 §11.13.5. After any but ClassSuccess the connection
// is closed.
const (
	ClassSuccess        LoginStatusClass = 0
	ClassRedirection    LoginStatusClass = 1
	ClassInitiatorError LoginStatusClass = 2
	ClassTargetError    LoginStatusClass = 3
)

// String returns the name in RFC 7143, or the number of another value.
func (c LoginStatusClass) String() string {
	switch c {
	case ClassSuccess:
		return "Success"
	case ClassRedirection:
		return "Redirection"
	case ClassInitiatorError:
		return "Initiator Error"
	case ClassTargetError:
		return "Target Error"
	}
	return fmt.Sprintf("LoginStatusClass(%d)", uint8(c))
}

// Class returns the Status-Class.
func (s LoginStatus) Class() LoginStatusClass { return LoginStatusClass(s >> 8) }

// Detail returns the Status-Detail.
func (s LoginStatus) Detail() uint8 { return uint8(s) }

// String returns the name in RFC 7143, or the number of another value.
func (s LoginStatus) String() string {
	switch s {
	case LoginSuccess:
		return "success"
	case LoginTargetMovedTemporarily:
		return "target moved temporarily"
	case LoginTargetMovedPermanently:
		return "target moved permanently"
	case LoginInitiatorError:
		return "initiator error"
	case LoginAuthenticationFailure:
		return "authentication failure"
	case LoginAuthorizationFailure:
		return "authorization failure"
	case LoginTargetNotFound:
		return "target not found"
	case LoginTargetRemoved:
		return "target removed"
	case LoginUnsupportedVersion:
		return "unsupported version"
	case LoginTooManyConnections:
		return "too many connections"
	case LoginMissingParameter:
		return "missing parameter"
	case LoginCannotIncludeInSession:
		return "can't include in session"
	case LoginSessionTypeNotSupported:
		return "session type not supported"
	case LoginSessionDoesNotExist:
		return "session does not exist"
	case LoginInvalidRequestDuringLogin:
		return "invalid request during login"
	case LoginTargetError:
		return "target error"
	case LoginServiceUnavailable:
		return "service unavailable"
	case LoginOutOfResources:
		return "out of resources"
	}
	return fmt.Sprintf("LoginStatus(%#04x)", uint16(s))
}
