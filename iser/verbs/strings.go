package verbs

import (
	"strconv"
	"strings"
)

// name returns names[n], or kind(n) for a value that has none.
func name(names []string, n int, kind string) string {
	if n >= 0 && n < len(names) && names[n] != "" {
		return names[n]
	}
	return kind + "(" + strconv.Itoa(n) + ")"
}

var statusNames = []string{
	"success", "local length error", "local QP operation error", "local EE context error",
	"local protection error", "flushed", "window bind error", "bad response",
	"local access error", "remote invalid request", "remote access error", "remote operation error",
	"transport retries exceeded", "receiver-not-ready retries exceeded", "local RDD violation",
	"remote invalid RD request", "remote aborted", "invalid EE context number",
	"invalid EE context state", "fatal error", "response timeout", "general error",
}

// String returns the status in words.
func (s Status) String() string { return name(statusNames, int(s), "Status") }

var opNames = []string{
	OpSend: "Send", OpSendInv: "SendInv", OpWrite: "Write", OpRead: "Read",
	OpLocalInv: "LocalInv", OpBind: "Bind", OpRecv: "Recv",
}

// String returns the operation's name.
func (o Op) String() string { return name(opNames, int(o), "Op") }

var eventNames = []string{
	EventConnectRequest: "connect request", EventEstablished: "established",
	EventConnectError: "connect error", EventUnreachable: "unreachable", EventRejected: "rejected",
	EventDisconnected: "disconnected", EventDeviceRemoval: "device removal",
	EventAddrChange: "address change", EventTimewaitExit: "timewait exit",
}

// String returns the event's name.
func (k EventKind) String() string { return name(eventNames, int(k), "EventKind") }

var deviceEventNames = []string{
	DeviceCQError: "CQ error", DeviceQPFatal: "QP fatal error",
	DeviceQPRequestError: "QP request error", DeviceQPAccessError: "QP access error",
	DeviceCommEst: "communication established", DeviceSQDrained: "send queue drained",
	DevicePathMigrated: "path migrated", DevicePathMigError: "path migration error",
	DeviceFatal: "device fatal error", DevicePortActive: "port active", DevicePortDown: "port down",
	DeviceLIDChange: "LID change", DevicePKeyChange: "P_Key change", DeviceSMChange: "SM change",
	DeviceClientReregister: "client reregister", DeviceGIDChange: "GID change",
}

// String returns the event's name.
func (k DeviceEventKind) String() string { return name(deviceEventNames, int(k), "DeviceEventKind") }

var transportNames = []string{TransportInfiniBand: "InfiniBand", TransportIWARP: "iWARP"}

// String returns the transport's name.
func (t Transport) String() string { return name(transportNames, int(t), "Transport") }

var portStateNames = []string{"NOP", "DOWN", "INIT", "ARMED", "ACTIVE", "ACTIVE_DEFER"}

// String returns the state's name in the standard.
func (s PortState) String() string { return name(portStateNames, int(s), "PortState") }

var linkLayerNames = []string{"unspecified", "InfiniBand", "Ethernet"}

// String returns the link layer's name.
func (l LinkLayer) String() string { return name(linkLayerNames, int(l), "LinkLayer") }

var gidTypeNames = []string{GIDInfiniBand: "IB", GIDRoCEv1: "RoCE v1", GIDRoCEv2: "RoCE v2"}

// String returns the type's name.
func (t GIDType) String() string { return name(gidTypeNames, int(t), "GIDType") }

// bits names the bits of n, the lowest first, and adds those without a name as
// a number.
func bits(names []string, n uint64) string {
	if n == 0 {
		return "0"
	}
	var parts []string
	for i, s := range names {
		if s != "" && n&(1<<i) != 0 {
			parts = append(parts, s)
			n &^= 1 << i
		}
	}
	if n != 0 {
		parts = append(parts, "0x"+strconv.FormatUint(n, 16))
	}
	return strings.Join(parts, "|")
}

// String names the flags.
func (f WCFlags) String() string { return bits([]string{"WithInv"}, uint64(f)) }

// String names the flags.
func (f SendFlags) String() string {
	return bits([]string{"Fence", "Signaled", "Solicited", "Inline"}, uint64(f))
}

// String names what is allowed.
func (a Access) String() string {
	return bits([]string{"LocalWrite", "RemoteWrite", "RemoteRead", "", "Bind", "", "OnDemand"}, uint64(a))
}
