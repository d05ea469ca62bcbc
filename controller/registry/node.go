// Package registry knows the cluster as it is now: which agents are connected
// and what they said of themselves, which sessions the switch steers where, and
// how the latest hand-offs went.
//
// It is state and rules, no I/O: events come in with the time at which they
// happened, and what has to be done comes out. The caller (package controller)
// talks to agents, the switch and the disk.
package registry

import (
	"bytes"
	"cmp"
	"fmt"
	"net"
	"net/netip"
	"slices"

	"google.golang.org/protobuf/proto"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Hello is what an agent says of itself, checked for form.
type Hello struct {
	Name         string
	Roles        []shuntv1.Role
	MAC          net.HardwareAddr
	Addresses    []netip.Addr
	Transfer     string // host:port of its TransferService
	Applications []Application
	Instance     uint64
	Version      string
	Dispatcher   shuntv1.DispatcherState
}

// Application can take a service's sessions.
type Application struct {
	Service string
	Direct  netip.AddrPort // where it accepts ordinary connections; zero if it does not
	Ready   bool
}

// Node is a node that is or was connected.
type Node struct {
	Hello
	// Up means that its agent is connected.
	Up bool
	// Expected means that it was up when the controller last ran and has had no
	// time yet to come back: others should go on using it.
	Expected bool
	// Synced means that since it joined it has listed its sessions.
	Synced bool
	// GivenUp means that it was taken for dead, and its sessions for lost: nobody
	// may use it until what it held then has ended, should it be alive.
	GivenUp bool
	// Fenced means that nothing that it still sends for sessions may reach a client.
	Fenced bool
	// Report is its latest; nil before the first.
	Report *shuntv1.Report
}

// Usable reports whether others should use the node.
func (n Node) Usable() bool { return (n.Up || n.Expected) && !n.GivenUp }

// InUse reports whether the node is there, for all to use.
func (n Node) InUse() bool { return n.Up && !n.GivenUp }

// Accepts reports whether the node's dispatcher takes new connections.
func (n Node) Accepts() bool {
	return n.Usable() && n.Dispatcher == shuntv1.DispatcherState_DISPATCHER_STATE_UNSPECIFIED
}

// Has reports whether the node has the role.
func (n Node) Has(r shuntv1.Role) bool { return slices.Contains(n.Roles, r) }

// Proto is the node as agents and operators are told.
func (n Node) Proto() *shuntv1.Node {
	out := &shuntv1.Node{
		Name: n.Name, Roles: n.Roles, Mac: n.MAC,
		TransferEndpoint: n.Transfer, Up: n.Usable(), Dispatcher: n.Dispatcher, GivenUp: n.GivenUp,
	}
	for _, a := range n.Addresses {
		out.Addresses = append(out.Addresses, a.AsSlice())
	}
	for _, a := range n.Applications {
		m := &shuntv1.Application{Service: a.Service, Ready: a.Ready}
		if a.Direct.IsValid() {
			m.Direct = shuntv1.EndpointOf(a.Direct)
		}
		out.Applications = append(out.Applications, m)
	}
	return out
}

// Record is the node as it is stored across restarts of the controller.
func (n Node) Record() ([]byte, error) {
	return proto.MarshalOptions{Deterministic: true}.Marshal(n.Proto())
}

// ParseRecord reads a Record. A node that was up is Expected.
func ParseRecord(record []byte) (Node, error) {
	var m shuntv1.Node
	if err := proto.Unmarshal(record, &m); err != nil {
		return Node{}, fmt.Errorf("read a node's record: %w", err)
	}
	h, err := ParseHello(&shuntv1.Hello{
		Node: m.Name, Roles: m.Roles, Mac: m.Mac, Addresses: m.Addresses,
		TransferEndpoint: m.TransferEndpoint, Applications: m.Applications,
	})
	if err != nil {
		return Node{}, fmt.Errorf("read a node's record: %w", err)
	}
	return Node{Hello: h, Expected: m.Up, GivenUp: m.GivenUp, Fenced: m.GivenUp}, nil
}

// clash says which of two different nodes' addresses are the same, or "".
func clash(a, b Hello) string {
	if bytes.Equal(a.MAC, b.MAC) {
		return a.MAC.String()
	}
	for _, x := range a.Addresses {
		if slices.Contains(b.Addresses, x) {
			return x.String()
		}
	}
	return ""
}

// CompareNames orders names as people do: server2 before server10.
func CompareNames(a, b string) int {
	x, y := a, b
	for x != "" && y != "" {
		m, n := digits(x), digits(y)
		if m > 0 && n > 0 {
			i, j := trimZeros(x[:m]), trimZeros(y[:n])
			if c := cmp.Or(cmp.Compare(len(i), len(j)), cmp.Compare(i, j)); c != 0 {
				return c
			}
			x, y = x[m:], y[n:]
			continue
		}
		if x[0] != y[0] {
			return cmp.Compare(x[0], y[0])
		}
		x, y = x[1:], y[1:]
	}
	return cmp.Or(cmp.Compare(len(x), len(y)), cmp.Compare(a, b))
}

func digits(s string) (n int) {
	for n < len(s) && '0' <= s[n] && s[n] <= '9' {
		n++
	}
	return n
}

func trimZeros(s string) string {
	for len(s) > 1 && s[0] == '0' {
		s = s[1:]
	}
	return s
}
