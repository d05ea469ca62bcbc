package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"slices"
	"strings"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/fabric"
	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// checkSwitches reaches each configured switch and looks at it.
func (r *Report) checkSwitches(ctx context.Context, o ControllerOptions, cfg config.Config, conf *tls.Config) {
	status, err := running(ctx, cfg)
	up := err == nil
	if up {
		r.ok("controller", cfg.Listen.Operator, "running, %s", describe("node", len(status.Nodes)))
		for _, s := range status.Switches {
			if !s.Connected {
				r.fail("switch-connection", s.DPID, "see that the switch's controller is this one: ovs-vsctl get-controller BRIDGE", "not connected to the running controller; last error: %s", s.Error)
				continue
			}
			r.ok("switch-connection", s.DPID, "connected to the running controller, steering by %s, %d flows", s.Steering, s.Flows)
			if s.Error != "" {
				r.fail("switch-flows", s.DPID, "see the controller's log", "%s", s.Error)
			}
		}
	}
	var l net.Listener
	for _, s := range cfg.Switches {
		target := s.Connect
		if o.Switch != "" {
			target = o.Switch
		}
		if target == "" && up {
			continue // the running controller said what there is to say
		}
		if target == "" && l == nil {
			var serve *tls.Config
			if cfg.OpenFlowTLS {
				if serve, err = cfg.TLS.Server(); err != nil {
					continue // told by the certificate's checks
				}
				serve.MinVersion = tls.VersionTLS12
			}
			if l, err = openflow.Listen(cfg.Listen.OpenFlow, serve); err != nil {
				r.fail("switch-connection", cfg.Listen.OpenFlow, "free the port, correct listen.openflow, or name the switch with --switch", "%v", err)
				return
			}
			defer l.Close()
		}
		r.checkSwitch(ctx, s, target, l, conf, up)
	}
}

// checkSwitch looks at one switch, dialled or waited for. With passive set a
// controller drives it: then nothing is tried on it.
func (r *Report) checkSwitch(ctx context.Context, s config.Switch, target string, l net.Listener, conf *tls.Config, passive bool) {
	subject := fmt.Sprintf("%016x", s.DPID)
	if target != "" {
		subject = target
	}
	conn, err := reachSwitch(ctx, target, l, conf)
	switch {
	case err != nil && strings.Contains(err.Error(), "OpenFlow"+" 1.3"):
		r.fail("switch-openflow", subject, "let it speak OpenFlow 1.3: ovs-vsctl add bridge BRIDGE protocols OpenFlow13", "%v", err)
		return
	case err != nil && target == "":
		r.fail("switch-connection", subject, "let the switch connect to this host: ovs-vsctl set-controller BRIDGE tcp:ADDRESS:6653", "%v", err)
		return
	case err != nil:
		r.fail("switch-connection", subject, "see that the switch runs and listens there", "%v", err)
		return
	}
	ctx, stop := context.WithTimeout(ctx, waitTime)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = conn.Run(ctx)
	}()
	defer func() { <-done }()
	defer stop()
	d := conn.Description()
	r.ok("switch-openflow", subject, "OpenFlow 1.3 with %s %s", d.Hardware, d.Software)
	if s.DPID != 0 && conn.DatapathID() != s.DPID {
		r.fail("switch-dpid", subject, fmt.Sprintf("write dpid: %016x in the configuration, or ovs-vsctl set bridge BRIDGE other-config:datapath-id=%016x", conn.DatapathID(), s.DPID),
			"the switch's datapath id is %016x, the configuration has %016x", conn.DatapathID(), s.DPID)
	} else {
		r.ok("switch-dpid", subject, "%016x", conn.DatapathID())
	}
	r.checkPorts(subject, conn, s)
	r.checkForeign(ctx, subject, conn, s)
	if !passive {
		r.checkFeatures(ctx, subject, conn, s)
	}
}

// reachSwitch dials a switch, or waits for one.
func reachSwitch(ctx context.Context, target string, l net.Listener, conf *tls.Config) (*openflow.Conn, error) {
	ctx, cancel := context.WithTimeout(ctx, waitTime)
	defer cancel()
	var nc net.Conn
	var err error
	if target != "" {
		nc, err = openflow.Dial(ctx, target, conf)
	} else {
		stop := context.AfterFunc(ctx, func() { l.Close() })
		nc, err = l.Accept()
		stop()
		if errors.Is(err, net.ErrClosed) {
			err = fmt.Errorf("no switch connected to %v within %v", l.Addr(), waitTime)
		}
	}
	if err != nil {
		return nil, err
	}
	return openflow.Handshake(ctx, nc, openflow.Config{Log: slog.New(slog.DiscardHandler)})
}

func (r *Report) checkPorts(subject string, conn *openflow.Conn, s config.Switch) {
	have := map[string]openflow.Port{}
	var names []string
	for _, p := range conn.Ports() {
		have[p.Name] = p
		names = append(names, p.Name)
	}
	bad := 0
	for _, i := range s.Interfaces {
		for _, name := range i.Ports {
			if _, ok := have[name]; !ok {
				bad++
				r.fail("switch-ports", subject, "correct ports of the interface "+i.Name+", or add the port: ovs-vsctl add-port BRIDGE "+name, "the switch has no port %s; it has %s", name, strings.Join(names, ", "))
			}
		}
	}
	if bad == 0 {
		r.ok("switch-ports", subject, "all configured ones are there")
	}
}

// ours tells whether a table is one that Shunt uses, beside table 0.
func ours(table uint8, interfaces int) bool {
	return table >= pipeline.TableInterfaces && int(table) < int(pipeline.TableInterfaces)+interfaces ||
		table >= pipeline.TableAdvertise && table <= pipeline.TableEgress || table == pipeline.TableProbe || table == pipeline.TableProbe+1
}

// checkForeign looks for flows of others where Shunt's are or will be.
func (r *Report) checkForeign(ctx context.Context, subject string, conn *openflow.Conn, s config.Switch) {
	flows, err := conn.DumpFlows(ctx, 0, 0)
	if err != nil {
		r.fail("switch-foreign-flows", subject, "", "the switch does not list its flows: %v", err)
		return
	}
	ports := map[uint32]string{}
	for _, p := range conn.Ports() {
		for _, i := range s.Interfaces {
			if slices.Contains(i.Ports, p.Name) {
				ports[p.No] = p.Name
			}
		}
	}
	foreign, bad := 0, 0
	for _, f := range flows {
		if _, mine := pipeline.ClassOf(f.Cookie); mine {
			continue
		}
		foreign++
		switch {
		case ours(f.Table, len(s.Interfaces)):
			bad++
			r.fail("switch-foreign-flows", subject, fmt.Sprintf("move it to another table: Shunt uses 0 to %d, %d, %d to %d and %d", len(s.Interfaces), pipeline.TableAdvertise, pipeline.TableDiverted, pipeline.TableEgress, pipeline.TableProbe),
				"somebody's flow is in a table of Shunt's: table=%d, priority=%d, cookie=%#x %v", f.Table, f.Priority, f.Cookie, f.Match)
		case f.Table == pipeline.TablePorts && f.Priority >= pipeline.PriorityPort && touches(f.Match, ports):
			bad++
			r.fail("switch-foreign-flows", subject, fmt.Sprintf("restrict it to ports that are not Shunt's, or give it a priority below %d", pipeline.PriorityPort),
				"somebody's flow takes packets of Shunt's ports: table=%d, priority=%d, cookie=%#x %v", f.Table, f.Priority, f.Cookie, f.Match)
		}
	}
	if bad == 0 {
		r.ok("switch-foreign-flows", subject, "%s of others, none in the way", describe("flow", foreign))
	}
}

// touches tells whether a match can be true of packets from one of the ports.
func touches(m openflow.Match, ports map[uint32]string) bool {
	for _, fv := range m {
		if fv.Field != openflow.FieldInPort {
			continue
		}
		for no := range ports {
			if slices.Equal(openflow.InPort(no).Value, fv.Value) {
				return true
			}
		}
		return false
	}
	return true
}

func (r *Report) checkFeatures(ctx context.Context, subject string, conn *openflow.Conn, s config.Switch) {
	f, err := fabric.Probe(ctx, conn)
	if err != nil {
		r.fail("switch-features", subject, "let the controller change flows: no other controller may be the only master", "%v", err)
		return
	}
	switch {
	case f.Conntrack:
		r.ok("switch-conntrack", subject, "sessions can be steered by conntrack marks")
	case s.Steering == config.SteeringConntrack:
		r.fail("switch-conntrack", subject, "write steering: flows or auto", "the switch has no connection tracking, which the configuration asks for")
	default:
		r.warn("switch-conntrack", subject, "use Open vSwitch for connections that move without late packets", "no connection tracking: one flow for each session")
	}
	if !f.TCPFlags || !f.Move {
		r.warn("switch-features", subject, "", "the switch cannot match TCP flags (%t) or answer ARP itself (%t): the controller has to be there for it", !f.TCPFlags, !f.Move)
		return
	}
	r.ok("switch-features", subject, "answers ARP and sends SYNs home by itself")
}
