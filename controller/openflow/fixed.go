package openflow

import (
	"encoding/binary"
	"fmt"
	"net"

	"github.com/opencord/goloxi"
	"github.com/opencord/goloxi/of13"
)

// The messages of fixed layout go through goloxi. Its decoder indexes past the
// end of short input, so every call is guarded; its encoder pads no strings, so
// callers do. Matches, actions and what contains them have a codec of their
// own: of a field that it does not know goloxi skips the header but not the
// value, and so misreads the rest of the match, as of actions it rejects the
// message; and what changes flows is hot.

// fixed decodes m, of type t, as goloxi's message type T.
func fixed[T any](m Message, t Type) (msg T, err error) {
	if _, err := bodyOf(m, t, 0); err != nil {
		return msg, err
	}
	defer func() {
		if r := recover(); r != nil {
			err = malformed(BadRequestBadLen, "%v of %d octets: %v", t, len(m), r)
		}
	}()
	decoded, err := of13.DecodeMessage(m)
	if err != nil {
		return msg, malformed(BadRequestBadLen, "%v of %d octets: %v", t, len(m), err)
	}
	msg, ok := decoded.(T)
	if !ok {
		return msg, malformed(BadRequestBadType, "%v decodes as %T", t, decoded)
	}
	return msg, nil
}

func encodeFixed(xid uint32, msg goloxi.Message) Message {
	msg.SetXid(xid)
	e := goloxi.NewEncoder()
	if err := msg.Serialize(e); err != nil {
		// Messages of fixed layout have nothing that could fail.
		panic(fmt.Sprintf("openflow: serialize %T: %v", msg, err))
	}
	return e.Bytes()
}

// padString is s in exactly n octets, the last one zero.
func padString(s string, n int) string {
	b := make([]byte, n)
	copy(b[:n-1], s)
	return string(b)
}

// EncodeHello encodes an OFPT_HELLO that offers OpenFlow 1.3 only.
func EncodeHello(xid uint32) Message {
	b := newMessage(TypeHello, xid, 8)
	b = append(b, 0, 1, 0, 8) // OFPHET_VERSIONBITMAP
	b = binary.BigEndian.AppendUint32(b, 1<<Version)
	b, _ = finish(b, 0)
	return b
}

// ParseHello reports whether the sender of an OFPT_HELLO, of whatever version,
// can speak OpenFlow 1.3: its bitmap of versions says so or, without a bitmap,
// its version is at least 1.3. OpenFlow 1.3.5, 6.3.1.
func ParseHello(m Message) (speaks13 bool, err error) {
	if len(m) < HeaderLen || m.Type() != TypeHello {
		return false, malformed(BadRequestBadType, "not a HELLO")
	}
	b := m.Body()
	for len(b) >= 4 {
		t, n := binary.BigEndian.Uint16(b), int(binary.BigEndian.Uint16(b[2:]))
		if n < 4 || n > len(b) {
			return false, malformed(BadRequestBadLen, "HELLO element of %d octets, %d left", n, len(b))
		}
		if t == 1 && n >= 8 {
			return binary.BigEndian.Uint32(b[4:])&(1<<Version) != 0, nil
		}
		b = b[min(padded(n), len(b)):]
	}
	return m.Version() >= Version, nil
}

// EncodeEchoRequest encodes an OFPT_ECHO_REQUEST.
func EncodeEchoRequest(xid uint32, data []byte) Message { return encodeRaw(TypeEchoRequest, xid, data) }

// EncodeEchoReply answers an OFPT_ECHO_REQUEST: same xid, same data.
func EncodeEchoReply(request Message) Message {
	return encodeRaw(TypeEchoReply, request.Xid(), request.Body())
}

// EncodeBarrierRequest encodes an OFPT_BARRIER_REQUEST.
func EncodeBarrierRequest(xid uint32) Message { return encodeRaw(TypeBarrierRequest, xid, nil) }

// EncodeBarrierReply encodes an OFPT_BARRIER_REPLY.
func EncodeBarrierReply(xid uint32) Message { return encodeRaw(TypeBarrierReply, xid, nil) }

// EncodeFeaturesRequest encodes an OFPT_FEATURES_REQUEST.
func EncodeFeaturesRequest(xid uint32) Message { return encodeRaw(TypeFeaturesRequest, xid, nil) }

func encodeRaw(t Type, xid uint32, body []byte) Message {
	body = body[:min(len(body), MaxMessageLen-HeaderLen)]
	b := append(newMessage(t, xid, len(body)), body...)
	b, _ = finish(b, 0)
	return b
}

// Features is what a switch says of itself in OFPT_FEATURES_REPLY.
type Features struct {
	DatapathID   uint64
	Buffers      uint32
	Tables       uint8
	AuxiliaryID  uint8
	Capabilities uint32 // OFPC_*: Capability constants
}

// Bits of Features.Capabilities, OpenFlow 1.3.5, 7.3.1.
const (
	CapabilityFlowStats  uint32 = of13.OFPCFlowStats
	CapabilityTableStats uint32 = of13.OFPCTableStats
	CapabilityPortStats  uint32 = of13.OFPCPortStats
	CapabilityGroupStats uint32 = of13.OFPCGroupStats
)

// EncodeFeaturesReply encodes an OFPT_FEATURES_REPLY.
func EncodeFeaturesReply(xid uint32, f Features) Message {
	msg := of13.NewFeaturesReply()
	msg.DatapathId, msg.NBuffers, msg.NTables = f.DatapathID, f.Buffers, f.Tables
	msg.AuxiliaryId, msg.Capabilities = f.AuxiliaryID, of13.Capabilities(f.Capabilities)
	return encodeFixed(xid, msg)
}

// ParseFeaturesReply decodes an OFPT_FEATURES_REPLY.
func ParseFeaturesReply(m Message) (Features, error) {
	msg, err := fixed[*of13.FeaturesReply](m, TypeFeaturesReply)
	if err != nil {
		return Features{}, err
	}
	return Features{
		DatapathID: msg.DatapathId, Buffers: msg.NBuffers, Tables: msg.NTables,
		AuxiliaryID: msg.AuxiliaryId, Capabilities: uint32(msg.Capabilities),
	}, nil
}

// SwitchConfig is how a switch treats fragments and table misses.
type SwitchConfig struct {
	Flags       uint16 // 0: fragments are handled like any packet
	MissSendLen uint16 // octets of a packet sent to the controller on a miss
}

// EncodeSetConfig encodes an OFPT_SET_CONFIG.
func EncodeSetConfig(xid uint32, c SwitchConfig) Message {
	msg := of13.NewSetConfig()
	msg.Flags, msg.MissSendLen = of13.ConfigFlags(c.Flags), c.MissSendLen
	return encodeFixed(xid, msg)
}

// ParseSetConfig decodes an OFPT_SET_CONFIG.
func ParseSetConfig(m Message) (SwitchConfig, error) {
	msg, err := fixed[*of13.SetConfig](m, TypeSetConfig)
	if err != nil {
		return SwitchConfig{}, err
	}
	return SwitchConfig{Flags: uint16(msg.Flags), MissSendLen: msg.MissSendLen}, nil
}

// EncodeGetConfigReply encodes an OFPT_GET_CONFIG_REPLY.
func EncodeGetConfigReply(xid uint32, c SwitchConfig) Message {
	msg := of13.NewGetConfigReply()
	msg.Flags, msg.MissSendLen = of13.ConfigFlags(c.Flags), c.MissSendLen
	return encodeFixed(xid, msg)
}

// A Role of a controller, OpenFlow 1.3.5, 7.3.9.
type Role uint32

const (
	RoleNoChange Role = iota
	RoleEqual
	RoleMaster
	RoleSlave
)

// EncodeRoleRequest encodes an OFPT_ROLE_REQUEST.
func EncodeRoleRequest(xid uint32, r Role, generation uint64) Message {
	msg := of13.NewRoleRequest()
	msg.Role, msg.GenerationId = of13.ControllerRole(r), generation
	return encodeFixed(xid, msg)
}

// ParseRoleRequest decodes an OFPT_ROLE_REQUEST.
func ParseRoleRequest(m Message) (r Role, generation uint64, err error) {
	msg, err := fixed[*of13.RoleRequest](m, TypeRoleRequest)
	if err != nil {
		return 0, 0, err
	}
	if Role(msg.Role) > RoleSlave {
		return 0, 0, malformed(RoleBadRole, "role %d", msg.Role)
	}
	return Role(msg.Role), msg.GenerationId, nil
}

// EncodeRoleReply encodes an OFPT_ROLE_REPLY.
func EncodeRoleReply(xid uint32, r Role, generation uint64) Message {
	msg := of13.NewRoleReply()
	msg.Role, msg.GenerationId = of13.ControllerRole(r), generation
	return encodeFixed(xid, msg)
}

// ParseRoleReply decodes an OFPT_ROLE_REPLY.
func ParseRoleReply(m Message) (r Role, generation uint64, err error) {
	msg, err := fixed[*of13.RoleReply](m, TypeRoleReply)
	if err != nil {
		return 0, 0, err
	}
	return Role(msg.Role), msg.GenerationId, nil
}

// AsyncConfig says which asynchronous messages a controller gets: bit n stands
// for reason n. Of each pair the first is for the roles equal and master, the
// second for slave.
type AsyncConfig struct {
	PacketIn    [2]uint32
	PortStatus  [2]uint32
	FlowRemoved [2]uint32
}

// AllAsync asks for everything, in every role.
var AllAsync = AsyncConfig{
	PacketIn: [2]uint32{7, 7}, PortStatus: [2]uint32{7, 7}, FlowRemoved: [2]uint32{15, 15},
}

// EncodeSetAsync encodes an OFPT_SET_ASYNC.
func EncodeSetAsync(xid uint32, a AsyncConfig) Message {
	msg := of13.NewAsyncSet()
	msg.PacketInMaskEqualMaster, msg.PacketInMaskSlave = a.PacketIn[0], a.PacketIn[1]
	msg.PortStatusMaskEqualMaster, msg.PortStatusMaskSlave = a.PortStatus[0], a.PortStatus[1]
	msg.FlowRemovedMaskEqualMaster, msg.FlowRemovedMaskSlave = a.FlowRemoved[0], a.FlowRemoved[1]
	return encodeFixed(xid, msg)
}

// ParseSetAsync decodes an OFPT_SET_ASYNC.
func ParseSetAsync(m Message) (AsyncConfig, error) {
	msg, err := fixed[*of13.AsyncSet](m, TypeSetAsync)
	if err != nil {
		return AsyncConfig{}, err
	}
	return AsyncConfig{
		PacketIn:    [2]uint32{msg.PacketInMaskEqualMaster, msg.PacketInMaskSlave},
		PortStatus:  [2]uint32{msg.PortStatusMaskEqualMaster, msg.PortStatusMaskSlave},
		FlowRemoved: [2]uint32{msg.FlowRemovedMaskEqualMaster, msg.FlowRemovedMaskSlave},
	}, nil
}

// EncodeGetAsyncReply encodes an OFPT_GET_ASYNC_REPLY.
func EncodeGetAsyncReply(xid uint32, a AsyncConfig) Message {
	m := EncodeSetAsync(xid, a) // the same layout
	m[1] = byte(TypeGetAsyncReply)
	return m
}

// portLinkDown is OFPPS_LINK_DOWN.
const portLinkDown = of13.OFPPSLinkDown

func goloxiPort(p Port) of13.PortDesc {
	d := of13.PortDesc{
		PortNo: of13.Port(p.No), HwAddr: net.HardwareAddr(p.MAC[:]), Name: padString(p.Name, 16),
	}
	if !p.LinkUp {
		d.State = portLinkDown
	}
	return d
}

func fromGoloxiPort(d *of13.PortDesc) Port {
	return Port{
		No: uint32(d.PortNo), Name: cString([]byte(d.Name[:min(len(d.Name), 15)])), MAC: [6]byte(d.HwAddr), LinkUp: d.State&portLinkDown == 0,
	}
}

// EncodePortStatus encodes an OFPT_PORT_STATUS.
func EncodePortStatus(xid uint32, s PortStatus) Message {
	msg := of13.NewPortStatus()
	msg.Reason, msg.Desc = of13.PortReason(s.Reason), goloxiPort(s.Port)
	return encodeFixed(xid, msg)
}

// ParsePortStatus decodes an OFPT_PORT_STATUS.
func ParsePortStatus(m Message) (PortStatus, error) {
	msg, err := fixed[*of13.PortStatus](m, TypePortStatus)
	if err != nil {
		return PortStatus{}, err
	}
	return PortStatus{Reason: PortReason(msg.Reason), Port: fromGoloxiPort(&msg.Desc)}, nil
}
