package openflow

import "time"

// An Action is one of Output, Group, SetField, Move, DecTTL, Controller, CT, and
// Other where a switch reported an action outside the model.
type Action interface{ action() }

// Output sends the packet out of a port. To send it out of the port that it
// came in by, the port must be PortInPort.
type Output struct{ Port uint32 }

// Reserved ports, OpenFlow 1.3.5, 7.2.1.
const (
	PortInPort     uint32 = 0xfffffff8
	PortTable      uint32 = 0xfffffff9
	PortFlood      uint32 = 0xfffffffb
	PortAll        uint32 = 0xfffffffc
	PortController uint32 = 0xfffffffd
	PortLocal      uint32 = 0xfffffffe
	PortAny        uint32 = 0xffffffff
)

// Group runs a group's buckets.
type Group struct{ ID uint32 }

// SetField writes a whole field. The value has no mask.
type SetField struct{ FieldValue }

// Move copies a whole field to another of the same width (Nicira reg_move).
type Move struct{ Src, Dst Field }

// DecTTL decrements the IP TTL or hop limit.
type DecTTL struct{}

// Controller sends the first MaxLen octets of the packet to the controller
// (0xffff: all of it, unbuffered).
type Controller struct{ MaxLen uint16 }

// CT passes the packet through the connection tracker (Nicira ct).
type CT struct {
	Zone   uint16
	Commit bool
	Force  bool
	Table  uint8    // where the tracked packet goes on; NoTable: nowhere
	Exec   []Action // SetField of the mark; needs Commit
}

// NoTable as CT.Table ends the pipeline of the tracked copy.
const NoTable uint8 = 0xff

func (Output) action()     {}
func (Group) action()      {}
func (SetField) action()   {}
func (Move) action()       {}
func (DecTTL) action()     {}
func (Controller) action() {}
func (CT) action()         {}

// A Flow is one entry of a flow table: what matches, what is applied, and the
// table that the packet goes on to. No action and no table is an explicit drop.
type Flow struct {
	Table       uint8
	Priority    uint16
	Cookie      uint64
	Match       Match
	Apply       []Action
	Goto        uint8         // 0: nowhere (a flow never leads to table 0)
	IdleTimeout time.Duration // whole seconds; 0: none. Never on session flows: see docs/decisions.md.
	HardTimeout time.Duration // whole seconds; 0: none
}

// FlowMod commands, OpenFlow 1.3.5, 7.3.4.1.
type Command uint8

const (
	Add Command = iota
	Modify
	ModifyStrict
	Delete
	DeleteStrict
)

// A FlowMod changes a table. Delete and DeleteStrict use Table (NoTable: all),
// Match, Priority (strict only) and the cookie filter, and ignore the rest.
type FlowMod struct {
	Command    Command
	Flow       Flow
	CookieMask uint64 // filter of Modify and Delete; 0: every cookie
	OutPort    uint32 // filter of Delete: flows that output there; 0: all
	OutGroup   uint32 // filter of Delete: flows that use the group; 0: all
	Flags      uint16 // SendFlowRem, CheckOverlap, ...
}

// Flags of a FlowMod, OpenFlow 1.3.5, 7.3.4.1.
const (
	SendFlowRem  uint16 = 1 << 0 // tell the controller when the flow goes
	CheckOverlap uint16 = 1 << 1 // refuse a flow that overlaps one of the same priority
	ResetCounts  uint16 = 1 << 2
	NoPktCounts  uint16 = 1 << 3
	NoBytCounts  uint16 = 1 << 4
)

// A FlowStat is an entry as the switch reports it.
type FlowStat struct {
	Table    uint8
	Priority uint16
	Cookie   uint64
	Match    Match
	Packets  uint64
	Bytes    uint64
	Duration time.Duration
}

// A FlowEntry is an entry of a flow table with everything that the switch says
// about it.
type FlowEntry struct {
	Flow
	Flags    uint16
	Packets  uint64
	Bytes    uint64
	Duration time.Duration // since it was installed
	Other    []byte        // instructions outside the model, as octets; other controllers' flows have them
}

// Stat is the part of an entry that reconciliation needs.
func (e FlowEntry) Stat() FlowStat {
	return FlowStat{
		Table: e.Table, Priority: e.Priority, Cookie: e.Cookie, Match: e.Match,
		Packets: e.Packets, Bytes: e.Bytes, Duration: e.Duration,
	}
}

// A FlowDump is an entry for operators to read.
type FlowDump struct {
	FlowStat
	Actions string // ovs-ofctl notation
}

// A Bucket of a select group.
type Bucket struct {
	Weight uint16
	Apply  []Action
}

// A GroupMod adds, modifies or deletes a group of type select.
type GroupMod struct {
	Command Command // Add, Modify or Delete
	ID      uint32
	Buckets []Bucket
}

// A Port of a switch.
type Port struct {
	No     uint32
	Name   string
	MAC    [6]byte
	LinkUp bool
}

// Reasons of a PacketIn, OpenFlow 1.3.5, 7.4.1.
const (
	ReasonNoMatch    uint8 = 0 // the table-miss flow
	ReasonAction     uint8 = 1
	ReasonInvalidTTL uint8 = 2
)

// A PacketIn is a packet that a flow sent to the controller. Packets are never
// buffered in the switch; Data is what the flow's MaxLen let through.
type PacketIn struct {
	InPort   uint32
	Table    uint8
	Cookie   uint64
	Data     []byte
	Reason   uint8
	TotalLen int // of the packet; 0 in a PacketIn to encode: len(Data)
}

// A PacketOut has the switch run actions on a packet.
type PacketOut struct {
	InPort uint32 // PortController where it came in by none
	Apply  []Action
	Data   []byte
}

// A PortReason says what happened to a port.
type PortReason uint8

const (
	PortAdded PortReason = iota
	PortDeleted
	PortModified
)

// String is the specification's name in lower case.
func (r PortReason) String() string {
	switch r {
	case PortAdded:
		return "added"
	case PortDeleted:
		return "deleted"
	case PortModified:
		return "modified"
	}
	return "unknown"
}

// PortStatus says that a port came, went or changed.
type PortStatus struct {
	Reason PortReason
	Port   Port
}

// Reasons of a FlowRemoved, OpenFlow 1.3.5, 7.4.2.
const (
	RemovedIdle   uint8 = 0
	RemovedHard   uint8 = 1
	RemovedDelete uint8 = 2
	RemovedGroup  uint8 = 3
)

// FlowRemoved says that a flow with SendFlowRem is gone.
type FlowRemoved struct {
	Reason      uint8
	Table       uint8
	Priority    uint16
	Cookie      uint64
	Match       Match
	Duration    time.Duration
	IdleTimeout time.Duration
	HardTimeout time.Duration
	Packets     uint64
	Bytes       uint64
}
