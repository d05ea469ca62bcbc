package doctor

import (
	"context"
	"fmt"
	"maps"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/vishvananda/netlink"

	"github.com/shunt-sdn/shunt/controller/config"
)

// checkBridges looks into an Open vSwitch database for what OpenFlow does not
// say of the configured switches.
func (r *Report) checkBridges(ctx context.Context, o ControllerOptions, cfg config.Config) {
	ctx, cancel := context.WithTimeout(ctx, settleTime)
	defer cancel()
	db, err := dialOVSDB(ctx, o.OVSDB)
	if err != nil {
		r.fail("ovsdb", o.OVSDB, "name the database's socket with --ovsdb, for example unix:/run/openvswitch/db.sock", "%v", err)
		return
	}
	defer db.close()
	t, err := readTables(db)
	for err == nil && t.connecting() && ctx.Err() == nil {
		select {
		case <-ctx.Done():
		case <-time.After(200 * time.Millisecond):
			t, err = readTables(db)
		}
	}
	if err != nil {
		r.fail("ovsdb", o.OVSDB, "", "%v", err)
		return
	}
	r.ok("ovsdb", o.OVSDB, "read")
	for _, s := range cfg.Switches {
		id := t.bridgeOf(s, o.Bridge)
		if id == "" {
			r.fail("bridge", strings.Join(t.names(), " "), "name the bridge with --bridge, or correct dpid and ports in the configuration", "no bridge of this database has the configured datapath id or ports")
			continue
		}
		r.checkBridge(t, t.bridges[id], s, cfg)
	}
}

// tables are what is read of a database.
type tables struct{ root, bridges, ports, interfaces, controllers map[string]row }

func readTables(db *ovsdb) (t tables, err error) {
	for _, q := range []struct {
		into    *map[string]row
		name    string
		columns []string
	}{
		{&t.root, "Open_vSwitch", []string{"other_config", "ovs_version"}},
		{&t.bridges, "Bridge", []string{"name", "ports", "controller", "fail_mode", "protocols", "datapath_type", "datapath_id"}},
		{&t.ports, "Port", []string{"name", "interfaces"}},
		{&t.interfaces, "Interface", []string{"name", "type", "error", "ofport"}},
		{&t.controllers, "Controller", []string{"target", "is_connected", "role", "connection_mode"}},
	} {
		if *q.into, err = db.table(q.name, q.columns...); err != nil {
			return t, err
		}
	}
	return t, nil
}

// settleTime is longer than the interval at which a switch tells its database
// whether it is connected to its controllers, 5 s.
const settleTime = 6 * time.Second

// connecting tells whether a controller is not connected, as far as the database
// knows.
func (t tables) connecting() bool {
	for _, c := range t.controllers {
		if kind, _, _ := strings.Cut(c.text("target"), ":"); c.text("is_connected") != "true" && !strings.HasPrefix(kind, "p") {
			return true
		}
	}
	return false
}

func (t tables) names() []string {
	var out []string
	for _, b := range t.bridges {
		out = append(out, b.text("name"))
	}
	slices.Sort(out)
	return out
}

// bridgeOf finds a switch's bridge: the one that is named, or by datapath id, or
// by the ports.
func (t tables) bridgeOf(s config.Switch, name string) string {
	for _, id := range slices.Sorted(maps.Keys(t.bridges)) {
		b := t.bridges[id]
		if name != "" {
			if b.text("name") == name {
				return id
			}
			continue
		}
		dpid, err := strconv.ParseUint(b.text("datapath_id"), 16, 64)
		if s.DPID != 0 {
			if err == nil && dpid == s.DPID {
				return id
			}
			continue
		}
		have := t.interfacesOf(b)
		for _, i := range s.Interfaces {
			if slices.ContainsFunc(i.Ports, func(p string) bool { return have[p] != nil }) {
				return id
			}
		}
	}
	return ""
}

// interfacesOf returns a bridge's interfaces by name.
func (t tables) interfacesOf(b row) map[string]row {
	out := map[string]row{}
	for _, p := range b.texts("ports") {
		for _, i := range t.ports[p].texts("interfaces") {
			out[t.interfaces[i].text("name")] = t.interfaces[i]
		}
	}
	return out
}

func (r *Report) checkBridge(t tables, b row, s config.Switch, cfg config.Config) {
	name := b.text("name")
	switch b.text("fail_mode") {
	case "secure":
		r.ok("bridge-fail-mode", name, "secure")
	default:
		r.fail("bridge-fail-mode", name, "ovs-vsctl set-fail-mode "+name+" secure",
			"fail mode is standalone: when no controller answers, the bridge becomes a learning switch and live sessions break")
	}
	if p := b.texts("protocols"); len(p) > 0 && !slices.Contains(p, "OpenFlow13") {
		r.fail("bridge-protocols", name, "ovs-vsctl add bridge "+name+" protocols OpenFlow13", "the bridge speaks %s only", strings.Join(p, ", "))
	} else {
		r.ok("bridge-protocols", name, "OpenFlow 1.3 is allowed")
	}
	r.checkBridgeController(t, b, s, cfg)
	have := t.interfacesOf(b)
	broken := 0
	for _, i := range s.Interfaces {
		for _, p := range i.Ports {
			switch port := have[p]; {
			case port == nil:
				broken++
				r.fail("bridge-ports", name+" "+p, "ovs-vsctl add-port "+name+" "+p+", or correct ports of the interface "+i.Name, "the bridge has no port %s", p)
			case port.text("error") != "":
				broken++
				r.fail("bridge-ports", name+" "+p, "correct what the bridge says of it", "%s", port.text("error"))
			}
		}
	}
	if broken == 0 {
		r.ok("bridge-ports", name, "all are there")
	}
	r.checkDatapath(t, b, s)
}

func (r *Report) checkBridgeController(t tables, b row, s config.Switch, cfg config.Config) {
	name := b.text("name")
	var targets []string
	for _, id := range b.texts("controller") {
		c := t.controllers[id]
		targets = append(targets, c.text("target"))
	}
	if s.Connect != "" {
		r.ok("bridge-controller", name, "the controller connects to the switch; besides %v", targets)
		return
	}
	scheme := "tcp"
	if cfg.OpenFlowTLS {
		scheme = "ssl"
	}
	host, port, _ := net.SplitHostPort(cfg.Listen.OpenFlow)
	if port == "" {
		port = "6653"
	}
	for _, id := range b.texts("controller") {
		c := t.controllers[id]
		target := c.text("target")
		kind, rest, _ := strings.Cut(target, ":")
		if kind == "ptcp" || kind == "pssl" || kind == "punix" {
			continue
		}
		at, p, err := net.SplitHostPort(rest)
		if err != nil {
			at, p = strings.Trim(rest, "[]"), "6653"
		}
		if p != port || host != "" && at != host && !net.ParseIP(host).IsUnspecified() {
			continue
		}
		switch {
		case kind != scheme:
			r.fail("bridge-controller", name, "ovs-vsctl set-controller "+name+" "+scheme+":"+rest+" (and the other controllers), or change openflow_tls", "the bridge connects with %s, but the controller expects %s", target, scheme)
		case c.text("is_connected") != "true":
			r.fail("bridge-controller", name, "see that the controller runs and that no firewall is in between; with ssl, that ovs-vsctl get-ssl shows certificates of the same authority", "the bridge is not connected to %s", target)
		case c.text("role") == "slave":
			r.fail("bridge-controller", name, "let the other controller ask for the role equal", "another controller has made itself the bridge's master, and %s may change nothing", target)
		default:
			r.ok("bridge-controller", name, "connected to %s", target)
		}
		return
	}
	r.fail("bridge-controller", name, fmt.Sprintf("ovs-vsctl set-controller %s %s %s:ADDRESS:%s", name, strings.Join(targets, " "), scheme, port),
		"none of the bridge's controllers %v is this one", targets)
}

// checkDatapath looks at what the userspace datapath does to large segments.
func (r *Report) checkDatapath(t tables, b row, s config.Switch) {
	name := b.text("name")
	kind := b.text("datapath_type")
	if kind != "netdev" {
		r.ok("bridge-datapath", name, "the kernel's")
		return
	}
	var tso string
	for _, root := range t.root {
		tso = root.option("other_config", "userspace-tso-enable")
	}
	if tso == "true" {
		r.ok("bridge-datapath", name, "userspace, with segmentation offload")
		return
	}
	var veths []string
	for _, i := range s.Interfaces {
		for _, p := range i.Ports {
			if l, err := netlink.LinkByName(p); err == nil && l.Type() == "veth" {
				veths = append(veths, p)
			}
		}
	}
	if len(veths) > 0 {
		r.warn("bridge-datapath", name, "ovs-vsctl set Open_vSwitch . other_config:userspace-tso-enable=true and restart ovs-vswitchd, or switch offloads off in every host: ethtool -K IFACE tx off",
			"the userspace datapath drops segments without checksums, which %s (veth) brings in", strings.Join(veths, ", "))
		return
	}
	r.ok("bridge-datapath", name, "userspace")
}

// waitTime is what a switch that dials in has to come.
const waitTime = 10 * time.Second
