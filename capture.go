package iserd

import (
	"context"
	"io"

	"github.com/iserd/iserd/internal/capture"
)

// CaptureOptions say which PDUs are captured. The zero value is all of them.
type CaptureOptions struct {
	TSIH      uint16 // of the session; 0: any
	Initiator string // InitiatorName; empty: any
	Target    string // TargetName; empty: any, and discovery
	Snaplen   int    // bytes kept of each PDU; 0: all
	Secrets   bool   // keep CHAP responses, which are blanked out otherwise
	Node      string // name for the file
}

// Capture records the PDUs of connections to w, over TCP and over RDMA, as
// pcapng with IP and TCP headers made up for them. It returns nil when ctx ends,
// and an error when w fails. Connections never wait for w: PDUs that it is too
// slow for are left out and counted in the file.
func (s *Server) Capture(ctx context.Context, w io.Writer, o CaptureOptions) error {
	return wrap(s.node.Capture(ctx, capture.Options{
		Filter:  capture.Filter{TSIH: o.TSIH, Initiator: o.Initiator, Target: o.Target},
		Snaplen: o.Snaplen, Secrets: o.Secrets, Node: o.Node,
	}, w))
}
