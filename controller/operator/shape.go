package operator

import (
	"fmt"
	"net"
	"net/netip"
	"strings"
	"time"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// The types below are the JSON that scripts see: keys may be added, but not
// renamed or removed. Lists are never null.
type (
	// Status is the cluster in a few figures.
	Status struct {
		Handoffs HandoffCounts `json:"handoffs"`
		Requests RequestCounts `json:"requests"`
		Sessions uint64        `json:"sessions"`
		Switches []Switch      `json:"switches"`
		Nodes    []NodeState   `json:"nodes"`
	}
	// HandoffCounts counts since the controller's start.
	HandoffCounts struct {
		Completed  uint64 `json:"completed"`
		RolledBack uint64 `json:"rolled_back"`
		Failed     uint64 `json:"failed"`
	}
	// RequestCounts counts requests that were not handed off.
	RequestCounts struct {
		Proxied uint64 `json:"proxied"`
	}
	// Switch is one switch.
	Switch struct {
		DPID      string `json:"dpid"` // 16 hexadecimal digits
		Connected bool   `json:"connected"`
		Steering  string `json:"steering"` // flows or conntrack; empty until known
		Flows     uint64 `json:"flows"`
		Address   string `json:"address,omitempty"`
		Error     string `json:"error,omitempty"`
	}
	// NodeState says whether a node's agent is connected, and the node in use.
	NodeState struct {
		Name  string   `json:"name"`
		Roles []string `json:"roles"`
		Up    bool     `json:"up"`
		// GivenUp: it was taken for dead, and has not ended yet what it held then.
		GivenUp bool `json:"given_up,omitempty"`
	}

	// Services is every service.
	Services []Service
	// Service is what clients connect to.
	Service struct {
		Name            string   `json:"name"`
		VIPs            []string `json:"vips"` // address:port
		Servers         []string `json:"servers"`
		Leases          []Lease  `json:"leases"`
		MaxHeadBytes    uint32   `json:"max_head_bytes"`
		HeadTimeoutMS   uint32   `json:"head_timeout_ms"`
		ImportTimeoutMS uint32   `json:"import_timeout_ms"`
		SteerAfterMS    uint32   `json:"steer_after_ms"`
	}
	// Lease is a session address.
	Lease struct {
		Dispatcher string `json:"dispatcher"`
		Address    string `json:"address"` // with the service's port
		VIP        string `json:"vip"`
	}

	// Sessions is every session.
	Sessions []Session
	// Session is a client's connection.
	Session struct {
		Client  string `json:"client"` // address:port
		Service string `json:"service"`
		Node    string `json:"node"`
		Path    string `json:"path"` // dispatcher, diverted, switched or proxied
	}

	// Handoffs is the latest hand-offs, newest first.
	Handoffs []Handoff
	// Handoff is one hand-off.
	Handoff struct {
		ID      string `json:"id"`
		Client  string `json:"client"` // address:port
		Service string `json:"service"`
		From    string `json:"from"`
		To      string `json:"to"`
		Outcome string `json:"outcome"` // completed, rolled_back or failed
		Started string `json:"started"` // RFC 3339 with nanoseconds, UTC
		TotalUS uint32 `json:"total_us"`
		Steps   []Step `json:"steps"`
		Reason  string `json:"reason,omitempty"`
		TraceID string `json:"trace_id,omitempty"` // 32 hexadecimal digits
	}
	// Step is one step of a hand-off.
	Step struct {
		Name string `json:"name"`
		US   uint32 `json:"us"`
	}

	// Nodes is every node.
	Nodes []Node
	// Node is a dispatcher or server.
	Node struct {
		NodeState
		MAC              string            `json:"mac"`
		Addresses        []string          `json:"addresses"`
		TransferEndpoint string            `json:"transfer_endpoint"`
		Applications     []Application     `json:"applications"`
		Sessions         uint64            `json:"sessions"` // handed off to it
		Proxied          uint64            `json:"requests_proxied"`
		Refused          uint64            `json:"requests_refused"`
		Guard            map[string]uint64 `json:"guard"`
		PolicyRevision   uint64            `json:"policy_revision"`        // that it applies; 0: none
		PolicyError      string            `json:"policy_error,omitempty"` // why it does not apply a later one
	}
	// Application is what answers a service's requests on a node.
	Application struct {
		Service string `json:"service"`
		Direct  string `json:"direct"` // address:port; empty if it has none
		Ready   bool   `json:"ready"`
	}

	// Flows is Shunt's flows.
	Flows []Flow
	// Flow is one flow of a switch, in the notation of ovs-ofctl.
	Flow struct {
		DPID     string `json:"dpid"`
		Table    uint32 `json:"table"`
		Priority uint32 `json:"priority"`
		Cookie   string `json:"cookie"` // 0x and 16 hexadecimal digits
		Match    string `json:"match"`
		Actions  string `json:"actions"`
		Packets  uint64 `json:"packets"`
		Bytes    uint64 `json:"bytes"`
	}
)

// started is RFC 3339 with all nine digits, so that text sorts as time.
const started = "2006-01-02T15:04:05.000000000Z07:00"

// each maps a list; the result is never nil.
func each[A, B any](list []A, f func(A) B) []B {
	out := make([]B, len(list))
	for i, a := range list {
		out[i] = f(a)
	}
	return out
}

// lower turns PATH_SWITCHED into switched.
func lower(enum fmt.Stringer, prefix string) string {
	return strings.ToLower(strings.TrimPrefix(enum.String(), prefix))
}

func endpoint(e *shuntv1.Endpoint) string {
	if e == nil {
		return ""
	}
	ap, err := e.AddrPort()
	if err != nil {
		return "?"
	}
	return ap.String()
}

func address(b []byte) string {
	a, ok := netip.AddrFromSlice(b)
	if !ok {
		return "?"
	}
	return a.String()
}

func dpid(d uint64) string { return fmt.Sprintf("%016x", d) }

func statusOf(r *shuntv1.GetStatusResponse) Status {
	return Status{
		Handoffs: HandoffCounts{r.HandoffsCompleted, r.HandoffsRolledBack, r.HandoffsFailed},
		Requests: RequestCounts{r.RequestsProxied},
		Sessions: r.Sessions,
		Switches: each(r.Switches, func(s *shuntv1.SwitchStatus) Switch {
			return Switch{dpid(s.Dpid), s.Connected, s.Steering, s.Flows, s.Address, s.Error}
		}),
		Nodes: each(r.Nodes, stateOf),
	}
}

func stateOf(n *shuntv1.Node) NodeState {
	return NodeState{n.GetName(), each(n.GetRoles(), func(r shuntv1.Role) string { return lower(r, "ROLE_") }), n.GetUp(), n.GetGivenUp()}
}

// word says the same in a word.
func (n NodeState) word() string {
	if n.GivenUp {
		return "given up"
	}
	return either(n.Up, "up", "down")
}

func serviceOf(s *shuntv1.Service) Service {
	return Service{
		Name:    s.Name,
		VIPs:    each(s.Vips, endpoint),
		Servers: append([]string{}, s.Servers...),
		Leases: each(s.Leases, func(l *shuntv1.Lease) Lease {
			return Lease{l.Dispatcher, endpoint(l.Local), endpoint(l.Vip)}
		}),
		MaxHeadBytes: s.MaxHeadBytes, HeadTimeoutMS: s.HeadTimeoutMs, ImportTimeoutMS: s.ImportTimeoutMs, SteerAfterMS: s.SteerAfterMs,
	}
}

func sessionOf(s *shuntv1.SessionInfo) Session {
	return Session{endpoint(s.GetSession().GetClient()), s.Service, s.Node, lower(s.Path, "PATH_")}
}

func handoffOf(h *shuntv1.Handoff) Handoff {
	return Handoff{
		ID: h.Id, Client: endpoint(h.GetSession().GetClient()), Service: h.Service,
		From: h.FromNode, To: h.ToNode, Outcome: lower(h.Outcome, "OUTCOME_"),
		Started: time.Unix(0, h.StartedUnixNano).UTC().Format(started),
		TotalUS: h.TotalUs,
		Steps:   each(h.Steps, func(s *shuntv1.Step) Step { return Step{s.Name, s.DurationUs} }),
		Reason:  h.Reason,
		TraceID: h.TraceId,
	}
}

func nodeOf(n *shuntv1.NodeInfo) Node {
	m := n.GetNode()
	guard := n.GetReport().GetGuard()
	if guard == nil {
		guard = map[string]uint64{}
	}
	return Node{
		NodeState:        stateOf(m),
		MAC:              net.HardwareAddr(m.GetMac()).String(),
		Addresses:        each(m.GetAddresses(), address),
		TransferEndpoint: m.GetTransferEndpoint(),
		Applications: each(m.GetApplications(), func(a *shuntv1.Application) Application {
			return Application{a.Service, endpoint(a.Direct), a.Ready}
		}),
		Sessions: n.Sessions,
		Proxied:  n.GetReport().GetRequestsProxied(),
		Refused:  n.GetReport().GetRequestsRefused(),
		Guard:    guard,

		PolicyRevision: n.GetReport().GetPolicyVersion(),
		PolicyError:    n.GetReport().GetPolicyError(),
	}
}

func flowOf(f *shuntv1.FlowInfo) Flow {
	return Flow{dpid(f.Dpid), f.Table, f.Priority, fmt.Sprintf("0x%016x", f.Cookie), f.Match, f.Actions, f.Packets, f.Bytes}
}
