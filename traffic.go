package iserd

import (
	"context"
	"fmt"

	"github.com/iserd/iserd/pdu"
)

// Traffic are totals of the PDUs of all connections since the server began.
type Traffic struct {
	PDUs                       map[pdu.Opcode]uint64 // received and sent
	HeaderDigests, DataDigests uint64                // PDUs received with a wrong digest
}

// Traffic returns the totals as they are now.
func (s *Server) Traffic() Traffic {
	n := s.node.Traffic()
	t := Traffic{PDUs: make(map[pdu.Opcode]uint64), HeaderDigests: n.HeaderDigests, DataDigests: n.DataDigests}
	for i, count := range n.PDUs {
		if count > 0 {
			t.PDUs[pdu.Opcode(i)] = count
		}
	}
	return t
}

// RDMADevice is what the server holds of one RDMA device, and has done with it.
type RDMADevice struct {
	Device           string
	QueuePairs       int
	CompletionQueues int
	MemoryRegions    int
	Registered       int64 // bytes of registered memory, but for that of LUNs
	InUse            int64 // of them, handed out
	Completions      uint64
	Failed           map[string]uint64 // completions with an error, by its name
}

// RDMADevices lists the devices that somebody has connected to, by name.
func (s *Server) RDMADevices(ctx context.Context) ([]RDMADevice, error) {
	all, err := s.node.RDMADevices(ctx)
	if err != nil {
		return nil, fmt.Errorf("iserd: %w", err)
	}
	var out []RDMADevice
	for _, d := range all {
		out = append(out, RDMADevice(d))
	}
	return out, nil
}
