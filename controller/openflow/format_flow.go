package openflow

import (
	"encoding/binary"
	"fmt"
	"strings"
	"time"
)

// FormatActions writes an action list as ovs-ofctl takes it; no action is
// "drop".
func FormatActions(actions []Action) string { return formatApply(actions, 0) }

func formatApply(actions []Action, goTo uint8) string {
	var terms []string
	for _, a := range actions {
		terms = append(terms, formatAction(a))
	}
	if goTo != 0 {
		terms = append(terms, fmt.Sprintf("goto_table:%d", goTo))
	}
	if len(terms) == 0 {
		return "drop"
	}
	return strings.Join(terms, ",")
}

func formatAction(a Action) string {
	switch a := a.(type) {
	case Output:
		switch a.Port {
		case PortController:
			return "CONTROLLER:65535"
		case PortInPort:
			return "IN_PORT"
		}
		if _, reserved := portNames[a.Port]; reserved {
			return PortName(a.Port)
		}
		return "output:" + PortName(a.Port)
	case Controller:
		return fmt.Sprintf("CONTROLLER:%d", a.MaxLen)
	case Group:
		return fmt.Sprintf("group:%d", a.ID)
	case DecTTL:
		return "dec_ttl"
	case SetField:
		return "set_field:" + a.Field.text(a.Value) + "->" + nameIn(setNames, a.Field)
	case Move:
		return fmt.Sprintf("move:%s[]->%s[]", nameIn(moveNames, a.Src), nameIn(moveNames, a.Dst))
	case CT:
		return a.String()
	case Other:
		if len(a.Raw) >= 10 && binary.BigEndian.Uint16(a.Raw) == actionExperimenter {
			return fmt.Sprintf("experimenter(%#x:%d)", binary.BigEndian.Uint32(a.Raw[4:]), binary.BigEndian.Uint16(a.Raw[8:]))
		}
		if len(a.Raw) >= 2 {
			return fmt.Sprintf("action(%d)", binary.BigEndian.Uint16(a.Raw))
		}
	}
	return fmt.Sprintf("unknown(%T)", a)
}

func nameIn(names map[Field]string, f Field) string {
	if s, ok := names[f]; ok {
		return s
	}
	return f.String()
}

// String is the action as ovs-ofctl takes it.
func (a CT) String() string {
	var terms []string
	if a.Commit {
		terms = append(terms, "commit")
	}
	if a.Force {
		terms = append(terms, "force")
	}
	if a.Table != NoTable {
		terms = append(terms, fmt.Sprintf("table=%d", a.Table))
	}
	if a.Zone != 0 {
		terms = append(terms, fmt.Sprintf("zone=%d", a.Zone))
	}
	if len(a.Exec) > 0 {
		terms = append(terms, "exec("+FormatActions(a.Exec)+")")
	}
	return "ct(" + strings.Join(terms, ",") + ")"
}

// FormatFlow writes a flow as ovs-ofctl add-flow takes it.
func FormatFlow(f Flow) string {
	var s strings.Builder
	fmt.Fprintf(&s, "cookie=%#x,table=%d,priority=%d", f.Cookie, f.Table, f.Priority)
	if f.IdleTimeout > 0 {
		fmt.Fprintf(&s, ",idle_timeout=%d", (f.IdleTimeout+time.Second-1)/time.Second)
	}
	if f.HardTimeout > 0 {
		fmt.Fprintf(&s, ",hard_timeout=%d", (f.HardTimeout+time.Second-1)/time.Second)
	}
	if m := f.Match.String(); m != "" {
		s.WriteString("," + m)
	}
	s.WriteString(",actions=" + formatApply(f.Apply, f.Goto))
	return s.String()
}

// String is FormatFlow.
func (f Flow) String() string { return FormatFlow(f) }

// Actions writes what an entry does, instructions outside the model included.
func (e FlowEntry) Actions() string {
	s := formatApply(e.Apply, e.Goto)
	if len(e.Other) == 0 {
		return s
	}
	var terms []string
	if s != "drop" {
		terms = append(terms, s)
	}
	for b := e.Other; len(b) >= 4; {
		terms = append(terms, fmt.Sprintf("instruction(%d)", binary.BigEndian.Uint16(b)))
		b = b[min(len(b), max(int(binary.BigEndian.Uint16(b[2:])), 4)):]
	}
	return strings.Join(terms, ",")
}

// Dump is the entry for operators to read.
func (e FlowEntry) Dump() FlowDump { return FlowDump{FlowStat: e.Stat(), Actions: e.Actions()} }

// String is the entry as a dump shows it.
func (d FlowDump) String() string {
	var s strings.Builder
	fmt.Fprintf(&s, "cookie=%#x,duration=%.3fs,table=%d,n_packets=%d,n_bytes=%d,priority=%d",
		d.Cookie, d.Duration.Seconds(), d.Table, d.Packets, d.Bytes, d.Priority)
	if m := d.Match.String(); m != "" {
		s.WriteString("," + m)
	}
	return s.String() + ",actions=" + d.Actions
}

// String is the command's name in ovs-ofctl.
func (c Command) String() string {
	names := [...]string{"add", "modify", "modify_strict", "delete", "delete_strict"}
	if int(c) < len(names) {
		return names[c]
	}
	return fmt.Sprintf("command %d", uint8(c))
}

// String is the command and the flow, or for deletions the filter.
func (fm FlowMod) String() string {
	switch fm.Command {
	case Add, Modify, ModifyStrict:
		return fm.Command.String() + " " + FormatFlow(fm.Flow)
	}
	terms := []string{fmt.Sprintf("table=%d", fm.Flow.Table)}
	if fm.Flow.Table == NoTable {
		terms = nil
	}
	if fm.Command == DeleteStrict {
		terms = append(terms, fmt.Sprintf("priority=%d", fm.Flow.Priority))
	}
	if fm.CookieMask != 0 {
		terms = append(terms, fmt.Sprintf("cookie=%#x/%#x", fm.Flow.Cookie, fm.CookieMask))
	}
	if fm.OutPort != 0 {
		terms = append(terms, "out_port="+PortName(fm.OutPort))
	}
	if fm.OutGroup != 0 {
		terms = append(terms, fmt.Sprintf("out_group=%d", fm.OutGroup))
	}
	if m := fm.Flow.Match.String(); m != "" {
		terms = append(terms, m)
	}
	return fm.Command.String() + " " + strings.Join(terms, ",")
}

// String says what the packet-out does; not the packet.
func (p PacketOut) String() string {
	return fmt.Sprintf("packet_out in_port=%s,actions=%s (%d octets)", PortName(p.InPort), FormatActions(p.Apply), len(p.Data))
}

// String is the group as ovs-ofctl add-group takes it.
func (g GroupMod) String() string {
	s := fmt.Sprintf("%v_group group_id=%d", g.Command, g.ID)
	if g.Command == Delete {
		return s
	}
	s += ",type=select"
	for _, k := range g.Buckets {
		s += fmt.Sprintf(",bucket=weight:%d,actions=%s", k.Weight, FormatActions(k.Apply))
	}
	return s
}
