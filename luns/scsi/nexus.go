package scsi

import (
	"fmt"
	"math/bits"
	"sync/atomic"
)

// ITNexus identifies an I_T nexus: an initiator port and a target port, RFC
// 7143 4.4.1. It is immutable once attached.
type ITNexus struct {
	InitiatorName string  // iSCSI name of the initiator
	ISID          [6]byte // with the name: the initiator port
	TargetName    string  // iSCSI name of the target

	// RelativePort is the relative target port identifier (VPD page 83h,
	// designator type 4h); 0 leaves the designator out.
	RelativePort uint16
	// PortalGroupTag is the target portal group tag: with the target name it
	// names the target port.
	PortalGroupTag uint16
	// TargetPortGroup is the ALUA target port group (designator type 5h); 0
	// leaves the designator out.
	TargetPortGroup uint16
}

// Attention is a unit attention condition, SAM-6 5.14. The constants are in
// order of precedence: the first is reported first.
type Attention uint8

// Unit attention conditions.
const (
	AttentionPowerOn                Attention = iota // 29h/00h
	AttentionBusDeviceReset                          // 29h/03h: LOGICAL UNIT RESET
	AttentionDeviceInternalReset                     // 29h/04h: the logical unit was restarted
	AttentionNexusLoss                               // 29h/07h
	AttentionMediumChanged                           // 28h/00h
	AttentionReportedLUNsChanged                     // 3Fh/0Eh
	AttentionInquiryChanged                          // 3Fh/03h
	AttentionCapacityChanged                         // 2Ah/09h
	AttentionModeParametersChanged                   // 2Ah/01h
	AttentionReservationsPreempted                   // 2Ah/03h
	AttentionReservationsReleased                    // 2Ah/04h
	AttentionRegistrationsPreempted                  // 2Ah/05h
	AttentionAccessStateChanged                      // 2Ah/06h
	AttentionCommandsCleared                         // 2Fh/00h
	AttentionThinSoftThreshold                       // 38h/07h
	AttentionTimestampChanged                        // 2Ah/10h
	numAttentions
)

// attentionASC gives each Attention its additional sense code.
var attentionASC = [numAttentions]ASC{
	AttentionPowerOn:                PowerOnOccurred,
	AttentionBusDeviceReset:         BusDeviceResetOccurred,
	AttentionDeviceInternalReset:    DeviceInternalReset,
	AttentionNexusLoss:              NexusLossOccurred,
	AttentionMediumChanged:          MediumMayHaveChanged,
	AttentionReportedLUNsChanged:    ReportedLUNsChanged,
	AttentionInquiryChanged:         InquiryDataHasChanged,
	AttentionCapacityChanged:        CapacityDataHasChanged,
	AttentionModeParametersChanged:  ModeParametersChanged,
	AttentionReservationsPreempted:  ReservationsPreempted,
	AttentionReservationsReleased:   ReservationsReleased,
	AttentionRegistrationsPreempted: RegistrationsPreempted,
	AttentionAccessStateChanged:     AccessStateChanged,
	AttentionCommandsCleared:        CommandsClearedByOther,
	AttentionThinSoftThreshold:      ThinSoftThreshold,
	AttentionTimestampChanged:       TimestampChanged,
}

// ASC returns the additional sense code of the condition.
func (a Attention) ASC() ASC {
	if a < numAttentions {
		return attentionASC[a]
	}
	return NoAdditionalSense
}

// Sense returns sense data of the condition in fixed format, as a report of an
// event outside of any command has it. The caller owns it.
func (a Attention) Sense() []byte {
	s := senseInfo{key: UnitAttention, asc: a.ASC()}
	return s.append(nil, false)
}

// String returns the additional sense code, or the number.
func (a Attention) String() string {
	if a < numAttentions {
		return "UNIT ATTENTION " + a.ASC().String()
	}
	return fmt.Sprintf("Attention(%d)", uint8(a))
}

func (a Attention) bit() uint32 { return 1 << a }

// Nexus is the state that belongs to one I_T_L nexus. Port.Attach makes it.
// All methods are safe for concurrent use.
type Nexus struct {
	port *Port
	itn  *ITNexus
	id   nexusID // of itn, for registrations

	// Inventory returns the logical unit numbers (0..16383, ascending) that
	// this I_T nexus may see, for REPORT LUNS. It is set by the session
	// before the first command; nil reports LUN 0. It is called on the
	// goroutine that runs the command, returns a slice the caller only
	// reads, and must not block.
	Inventory func() []uint16

	// Peer returns the nexus that this I_T nexus has with the logical unit at
	// lun, nil if there is none in its map. EXTENDED COPY finds the other
	// logical unit of a copy by asking it for each entry of Inventory: what
	// the initiator may not see cannot be copied from or to. It is set by the
	// session before the first command; nil knows only this nexus. It is
	// called on workers, and must not block.
	Peer func(lun uint16) *Nexus

	// TMF are the task management functions that this I_T nexus has negotiated in
	// addition to those of the logical unit's Config. It is set before the first
	// command.
	TMF TMF

	// ReadOnly refuses writes of this I_T nexus, as if the medium were write
	// protected. It is set before the first command.
	ReadOnly bool

	// pending has the bit of each Attention that is established. A bit set
	// is by nature free of duplicates and ordered by precedence.
	pending atomic.Uint32

	// gate has the rights that reservations and the access state of the target
	// port refuse to this nexus: zero almost always, so that looking costs a
	// command one load. It is written with the mutex of the port held.
	gate atomic.Uint32

	shard uint8 // of the task set: the counter that its commands use

	meter atomic.Pointer[meter] // nil until the first command

	// prevent is set while this nexus prevents medium removal, SPC-5 6.15.
	prevent atomic.Bool

	buffers buffers   // READ BUFFER and WRITE BUFFER
	copies  copyTable // third-party copies of this nexus
}

// ITN returns the identity given to Attach.
func (n *Nexus) ITN() *ITNexus { return n.itn }

// Port returns the port the nexus is attached to.
func (n *Nexus) Port() *Port { return n.port }

// Detach ends the nexus: no further unit attentions are established for it,
// what it prevented is allowed, and its SPC-2 reservation ends; persistent ones
// stay. Commands that touch the medium already go on to their end, others of it
// finish with TASK ABORTED, SAM-6 6.3.4. Detaching twice is harmless.
func (n *Nexus) Detach() { n.port.detach(n) }

// Loss does what an I_T nexus loss does to the device server when the nexus goes
// on, SAM-6 6.3.4: medium removal is allowed, an SPC-2 reservation ends (a
// persistent one stays), and I_T NEXUS LOSS OCCURRED (29h/07h) is established.
// Aborting the commands is the task manager's part, and comes first.
func (n *Nexus) Loss() { n.port.lose(n) }

// Attention establishes a unit attention condition for this nexus. A condition
// that is pending already is not queued twice. Of the reset conditions only
// the one of highest precedence stays, SAM-6 table 55.
func (n *Nexus) Attention(a Attention) {
	if a >= numAttentions {
		return
	}
	const resets = 1<<AttentionPowerOn | 1<<AttentionBusDeviceReset |
		1<<AttentionDeviceInternalReset | 1<<AttentionNexusLoss
	for {
		old := n.pending.Load()
		next := old | a.bit()
		if r := next & resets; r != 0 {
			next = next&^resets | r&-r
		}
		if n.pending.CompareAndSwap(old, next) {
			return
		}
	}
}

// Attentions returns the unit attention condition that is reported next and how
// many are pending, without clearing any.
func (n *Nexus) Attentions() (first Attention, count int) {
	p := n.pending.Load()
	if p == 0 {
		return 0, 0
	}
	return Attention(bits.TrailingZeros32(p)), bits.OnesCount32(p)
}

// Pending reports whether a unit attention condition is established.
func (n *Nexus) Pending() bool { return n.pending.Load() != 0 }

// takeAttention clears and returns the condition of highest precedence.
func (n *Nexus) takeAttention() (a Attention, ok bool) {
	for {
		old := n.pending.Load()
		if old == 0 {
			return 0, false
		}
		if n.pending.CompareAndSwap(old, old&(old-1)) {
			return Attention(bits.TrailingZeros32(old)), true
		}
	}
}

// clearAttention removes one condition, if it is pending.
func (n *Nexus) clearAttention(a Attention) {
	n.pending.And(^a.bit())
}
