package fabric

import (
	"context"
	"errors"
	"fmt"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// probe finds out what a switch can do, by adding flows to a table that no
// packet reaches: descriptions of themselves say too little.
func probe(ctx context.Context, conn *openflow.Conn, mode Mode, zone uint16) (pipeline.Features, error) {
	ip := openflow.EthType(openflow.EthTypeIPv4)
	tcp := openflow.Match{ip, openflow.IPProto(openflow.ProtoTCP)}
	ip6 := openflow.Match{openflow.EthType(openflow.EthTypeIPv6), openflow.IPProto(openflow.ProtoICMPv6), openflow.U8(openflow.FieldICMPv6Type, 135), openflow.U8(openflow.FieldICMPv6Code, 0)}
	setMark := openflow.SetField{FieldValue: openflow.CTMark(1)}

	var f pipeline.Features
	var ctErr error
	for _, p := range []struct {
		has   *bool
		err   *error
		flows []openflow.Flow
	}{
		{&f.TCPFlags, nil, []openflow.Flow{{Match: append(tcp, openflow.TCPFlags(openflow.TCPSyn, openflow.TCPSyn|openflow.TCPAck))}}},
		{&f.Move, nil, []openflow.Flow{{Match: openflow.Match{ip}, Apply: []openflow.Action{openflow.Move{Src: openflow.FieldEthSrc, Dst: openflow.FieldEthDst}}}}},
		{&f.Advertise, nil, []openflow.Flow{{Match: ip6, Apply: []openflow.Action{
			openflow.SetField{FieldValue: openflow.U8(openflow.FieldNDOptionType, 2)},
			openflow.SetField{FieldValue: openflow.U32(openflow.FieldNDReserved, 0xe0000000)},
			openflow.SetField{FieldValue: openflow.U8(openflow.FieldICMPv6Type, 136)}}}}},
		{&f.Conntrack, &ctErr, []openflow.Flow{
			{Match: openflow.Match{ip}, Apply: []openflow.Action{openflow.CT{Zone: zone, Commit: true, Table: openflow.NoTable, Exec: []openflow.Action{setMark}}}},
			{Match: openflow.Match{ip}, Apply: []openflow.Action{openflow.CT{Zone: zone, Table: pipeline.TableProbe + 1}}},
			{Match: openflow.Match{ip, openflow.U32Masked(openflow.FieldCTMark, 1, 0xffff)}},
		}},
	} {
		if p.has == &f.Conntrack && mode == ExactFlow {
			continue
		}
		*p.has = true
		for _, flow := range p.flows {
			flow.Table, flow.Priority = pipeline.TableProbe, 1
			flow.Cookie = pipeline.Cookie(pipeline.ClassStatic, flow)
			err := conn.Apply(ctx, openflow.FlowMod{Command: openflow.Add, Flow: flow})
			var refused *openflow.SwitchError
			switch {
			case errors.As(err, &refused):
				*p.has = false
				if p.err != nil {
					*p.err = err
				}
			case err != nil:
				return f, fmt.Errorf("find out what the switch can do: %w", err)
			}
		}
	}
	f.Conntrack = f.Conntrack && f.TCPFlags // marks are erased by SYNs
	clean := openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Table: pipeline.TableProbe, Cookie: pipeline.CookieBase}, CookieMask: pipeline.CookieMask}
	if err := conn.Apply(ctx, clean); err != nil {
		return f, fmt.Errorf("remove the flows that showed what the switch can do: %w", err)
	}
	if mode == Conntrack && !f.Conntrack {
		return f, fmt.Errorf("the switch cannot steer by conntrack marks, as its configuration asks; set steering to flows or auto: %w", ctErr)
	}
	return f, nil
}
