package actors

import "github.com/iserd/iserd/internal/iscsi"

// trafficShards is how many counters of PDUs there are. Connections share them
// in turn: few wait for each other's cache lines, and nothing has to be kept for
// a connection that has gone.
const trafficShards = 16

// shard is the counter for another connection.
func (n *Node) shard() *iscsi.Traffic { return &n.traffic[n.shards.Add(1)%trafficShards] }

// Traffic counts the PDUs of all connections since the node began.
func (n *Node) Traffic() (t iscsi.TrafficTotals) {
	for i := range n.traffic {
		n.traffic[i].AddTo(&t)
	}
	return t
}
