package wire

// Version is OpenFlow 1.3 on the wire.
const Version = 0x04

// Message types, 7.1.1.
const (
	TypeHello            = 0
	TypeError            = 1
	TypeEchoRequest      = 2
	TypeEchoReply        = 3
	TypeExperimenter     = 4
	TypeFeaturesRequest  = 5
	TypeFeaturesReply    = 6
	TypeGetConfigRequest = 7
	TypeGetConfigReply   = 8
	TypeSetConfig        = 9
	TypePacketIn         = 10
	TypeFlowRemoved      = 11
	TypePortStatus       = 12
	TypePacketOut        = 13
	TypeFlowMod          = 14
	TypeGroupMod         = 15
	TypePortMod          = 16
	TypeTableMod         = 17
	TypeMultipartRequest = 18
	TypeMultipartReply   = 19
	TypeBarrierRequest   = 20
	TypeBarrierReply     = 21
	TypeQueueGetConfig   = 22
	TypeQueueConfigReply = 23
	TypeRoleRequest      = 24
	TypeRoleReply        = 25
	TypeGetAsyncRequest  = 26
	TypeGetAsyncReply    = 27
	TypeSetAsync         = 28
	TypeMeterMod         = 29
)

// Reserved ports, 7.2.1.
const (
	PortMax        = 0xffffff00
	PortInPort     = 0xfffffff8
	PortTable      = 0xfffffff9
	PortNormal     = 0xfffffffa
	PortFlood      = 0xfffffffb
	PortAll        = 0xfffffffc
	PortController = 0xfffffffd
	PortLocal      = 0xfffffffe
	PortAny        = 0xffffffff
)

// Values that mean "every" or "none".
const (
	TableAll = 0xff
	GroupMax = 0xffffff00
	GroupAll = 0xfffffffc
	GroupAny = 0xffffffff
	NoBuffer = 0xffffffff
)

// Flow mod commands and flags, 7.3.4.1.
const (
	FlowAdd          = 0
	FlowModify       = 1
	FlowModifyStrict = 2
	FlowDelete       = 3
	FlowDeleteStrict = 4

	FlagSendFlowRemoved = 1
	FlagCheckOverlap    = 2
	FlagResetCounts     = 4
	FlagNoPacketCounts  = 8
	FlagNoByteCounts    = 16
)

// Reasons of flow-removed, packet-in and port-status messages.
const (
	RemovedIdle   = 0
	RemovedHard   = 1
	RemovedDelete = 2
	RemovedGroup  = 3

	ReasonNoMatch    = 0
	ReasonAction     = 1
	ReasonInvalidTTL = 2

	PortAdded    = 0
	PortDeleted  = 1
	PortModified = 2
)

// Group mod commands and types, 7.3.4.2.
const (
	GroupAdd    = 0
	GroupModify = 1
	GroupDelete = 2

	GroupTypeAll      = 0
	GroupTypeSelect   = 1
	GroupTypeIndirect = 2
	GroupTypeFailover = 3
)

// Multipart types, 7.3.5.
const (
	MultipartDesc          = 0
	MultipartFlow          = 1
	MultipartAggregate     = 2
	MultipartTable         = 3
	MultipartPortStats     = 4
	MultipartQueue         = 5
	MultipartGroup         = 6
	MultipartGroupDesc     = 7
	MultipartGroupFeatures = 8
	MultipartMeter         = 9
	MultipartMeterConfig   = 10
	MultipartMeterFeatures = 11
	MultipartTableFeatures = 12
	MultipartPortDesc      = 13
	MultipartExperimenter  = 0xffff
	MultipartMore          = 1
)

// Controller roles, 7.3.9.
const (
	RoleNoChange = 0
	RoleEqual    = 1
	RoleMaster   = 2
	RoleSlave    = 3
)

// Port configuration and state bits, 7.2.1.
const (
	PortConfigDown       = 1 << 0
	PortConfigNoRecv     = 1 << 2
	PortConfigNoForward  = 1 << 5
	PortConfigNoPacketIn = 1 << 6
	PortStateLinkDown    = 1 << 0
	PortStateLive        = 1 << 2
)

// NiciraVendor is the experimenter of Open vSwitch's extensions.
const NiciraVendor = 0x00002320

// Bits of the ct_state field, ovs-fields(7).
const (
	CTNew         = 0x01
	CTEstablished = 0x02
	CTRelated     = 0x04
	CTReply       = 0x08
	CTInvalid     = 0x10
	CTTracked     = 0x20
)
