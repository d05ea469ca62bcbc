package doctor

import (
	"context"
	"crypto/tls"
	"net"
	"net/netip"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shunt-sdn/shunt/agent/config"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// AgentOptions say what to check of a node.
type AgentOptions struct {
	File  string         // the agent's configuration
	Pools []netip.Prefix // of session addresses; what the controller leased is known without
	Now   time.Time      // zero: time.Now()
}

// CheckAgent checks the host that it runs on, as one for an agent.
func CheckAgent(ctx context.Context, o AgentOptions) Report {
	var r Report
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	cfg, err := config.Load(o.File)
	if err != nil {
		r.fail("config", o.File, "correct it: shunt agent --check --config "+o.File, "%v", err)
	} else {
		r.ok("config", o.File, "valid")
	}
	r.checkKernel(ctx)
	r.checkFiles()
	r.checkClock()
	if err != nil {
		return r
	}
	dispatcher := cfg.Has(config.Dispatcher)
	if r.checkInterface(cfg.Interface) {
		r.checkSysctls(cfg.Interface, dispatcher)
	}
	var conf *tls.Config
	if !cfg.Insecure {
		conf = r.checkCertificate(cfg.TLS, append([]string{cfg.Node}, hostsOf(cfg.Advertise)...), o.Now)
	}
	var known cluster
	if cfg.Insecure || conf != nil {
		if r.checkReach(ctx, "controller", "", cfg.Controller, conf) {
			known = r.askController(ctx, cfg, conf)
		}
		for _, p := range known.peers {
			if r.checkReach(ctx, "peer", p.name, p.endpoint, conf) {
				r.checkPeerClock(ctx, p.name, p.endpoint, conf)
			}
		}
	}
	pools := o.Pools
	for _, e := range known.ends {
		if !covered(pools, e.Addr()) {
			pools = append(pools, netip.PrefixFrom(e.Addr(), e.Addr().BitLen()))
		}
	}
	r.checkPools(pools)
	r.checkListeners(known.ends, pools, dispatcher)
	for _, a := range cfg.Applications {
		switch {
		case a.Attach == config.AttachRelay:
			r.checkConnect(ctx, "application", a.Service, a.Connect, "start the program that answers "+a.Service+", or correct connect")
		case a.Direct.IsValid():
			r.checkConnect(ctx, "application", a.Service, a.Direct.String(), "start the program that answers "+a.Service+", or correct direct")
		}
	}
	return r
}

func covered(pools []netip.Prefix, a netip.Addr) bool {
	for _, p := range pools {
		if p.Contains(a) {
			return true
		}
	}
	return false
}

// hostsOf is the host of host:port.
func hostsOf(address string) []string {
	host, _, err := net.SplitHostPort(address)
	if err != nil {
		return nil
	}
	return []string{host}
}

// cluster is what the controller says.
type cluster struct {
	peers []peer
	ends  []netip.AddrPort // session addresses with their services' ports
}

type peer struct{ name, endpoint string }

// askController asks for the other nodes and for the session addresses.
func (r *Report) askController(ctx context.Context, cfg config.Config, conf *tls.Config) (c cluster) {
	creds := insecure.NewCredentials()
	if conf != nil {
		creds = credentials.NewTLS(conf)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+cfg.Controller, grpc.WithTransportCredentials(creds))
	if err != nil {
		r.fail("controller", cfg.Controller, "", "%v", err)
		return c
	}
	defer conn.Close()
	api := shuntv1.NewOperatorServiceClient(conn)
	nodes, err := api.ListNodes(ctx, &shuntv1.ListNodesRequest{})
	if err != nil {
		r.fail("controller", cfg.Controller, "see that controller names the controller's listen.grpc, and that both have TLS or neither", "no controller answers there: %v", err)
		return c
	}
	for _, n := range nodes.Nodes {
		if n.GetNode().GetName() != cfg.Node && n.GetNode().GetUp() {
			c.peers = append(c.peers, peer{n.Node.Name, n.Node.TransferEndpoint})
		}
	}
	services, err := api.ListServices(ctx, &shuntv1.ListServicesRequest{})
	if err != nil {
		r.fail("controller", cfg.Controller, "", "it does not list its services: %v", err)
		return c
	}
	known := map[string]bool{}
	for _, s := range services.Services {
		known[s.Name] = true
		for _, l := range s.Leases {
			if a, ok := netip.AddrFromSlice(l.GetLocal().GetAddress()); ok {
				c.ends = append(c.ends, netip.AddrPortFrom(a.Unmap(), uint16(l.Local.Port)))
			}
		}
	}
	for _, a := range cfg.Applications {
		if !known[a.Service] {
			r.fail("service", a.Service, "correct service in the configuration, or add the service to the controller's", "the controller knows no service %s", a.Service)
		}
	}
	r.ok("controller", cfg.Controller, "knows %s and %s", describe("other live node", len(c.peers)), describe("service", len(services.Services)))
	return c
}
