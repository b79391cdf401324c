package verbstest

import (
	"net/netip"
	"testing"
	"time"

	"github.com/iserd/iserd/iser/verbs"
)

// Config says where to run the suite.
type Config struct {
	// Provider under test.
	Provider verbs.Provider
	// Target is the address that is listened on.
	Target netip.Addr
	// Initiator is the address connected from; the zero Addr leaves the choice
	// to the provider.
	Initiator netip.Addr
	// Timeout of each wait; 0 means 20 s.
	Timeout time.Duration
}

// Run runs the suite.
func Run(t *testing.T, c Config) {
	if c.Timeout == 0 {
		c.Timeout = 20 * time.Second
	}
	tests := []struct {
		name string
		run  func(*env)
	}{
		{"Devices", testDevices},
		{"Next", testNext},
		{"ListenErrors", testListenErrors},
		{"Connect", testConnect},
		{"Reject", testReject},
		{"CloseRequest", testCloseRequest},
		{"NobodyListens", testNobodyListens},
		{"ListenerClose", testListenerClose},
		{"SendRecv", testSendRecv},
		{"Unsignaled", testUnsignaled},
		{"Inline", testInline},
		{"Write", testWrite},
		{"Read", testRead},
		{"ReadMany", testReadMany},
		{"SendInvalidate", testSendInvalidate},
		{"LocalInvalidate", testLocalInvalidate},
		{"BadKey", testBadKey},
		{"OutOfBounds", testOutOfBounds},
		{"NoAccess", testNoAccess},
		{"ReceiveTooShort", testReceiveTooShort},
		{"ReceiveLate", testReceiveLate},
		{"FlushOnError", testFlushOnError},
		{"FlushAfterError", testFlushAfterError},
		{"QueueFull", testQueueFull},
		{"InvalidRequest", testInvalidRequest},
		{"DisconnectInitiator", testDisconnectInitiator},
		{"DisconnectTarget", testDisconnectTarget},
		{"CloseAbruptly", testCloseAbruptly},
		{"CloseBusy", testCloseBusy},
		{"ManyConnections", testManyConnections},
		{"Reconnect", testReconnect},
		{"Notify", testNotify},
		{"Poller", testPoller},
		{"Allocations", testAllocations},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) { test.run(newEnv(t, c)) })
	}
}
