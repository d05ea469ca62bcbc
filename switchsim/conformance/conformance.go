// Package conformance is a suite of OpenFlow 1.3 behaviour that Shunt relies on.
// The same cases run against the simulated switch and against Open vSwitch, so
// that what is learned on one holds on the other.
//
// A case programs the switch over its own control connection, puts frames on
// wires, and compares what comes out to the octet. It never waits for silence:
// behind its frames it sends a marker that a flow of the suite copies to every
// port and to the controller; what has not come before the marker does not come.
package conformance

import (
	"context"
	"net"
	"testing"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/switchsim/afpacket"
)

// A Target is a switch under test, with ports 1, 2 and 3.
type Target struct {
	// Dial makes a control connection. Every case makes its own, some several.
	Dial func(context.Context) (net.Conn, error)
	// Wires are the far ends of the switch's ports, by port number less 1. Nothing
	// else may send on them.
	Wires [3]*afpacket.Port
	// Settle waits until what was changed is in force for packets of connections
	// that the switch has seen before. nil: it is as soon as a barrier is answered.
	Settle func()
	// SetLink takes the link of a port down or up at its far end.
	SetLink func(port uint32, up bool)
	// NoExtensions says that the switch does not know Open vSwitch's extensions;
	// cases that need them then check that it says so.
	NoExtensions bool
}

// behaviour is one case.
type behaviour struct {
	name string
	run  func(*env)
}

// Run runs the suite.
func Run(t *testing.T, target Target) {
	w := watch(t, target)
	if !t.Run("the wires are up", func(t *testing.T) { newEnv(t, target, w).warm() }) {
		return
	}
	for _, group := range []struct {
		name  string
		cases []behaviour
	}{
		{"tables", tableCases}, {"modifying", modifyCases}, {"rewriting", rewriteCases}, {"ports", outputCases},
		{"controller", controllerCases}, {"errors", errorCases}, {"statistics", statisticsCases}, {"groups", groupCases},
		{"session", sessionCases}, {"extensions", extensionCases},
	} {
		t.Run(group.name, func(t *testing.T) {
			for _, c := range group.cases {
				t.Run(c.name, func(t *testing.T) { c.run(newEnv(t, target, w)) })
			}
		})
	}
}

// The suite's ports.
const (
	port1 uint32 = iota + 1
	port2
	port3
)

func out(port uint32) openflow.Action { return openflow.Output{Port: port} }

func set(f openflow.FieldValue) openflow.Action { return openflow.SetField{FieldValue: f} }

func add(f openflow.Flow) openflow.FlowMod { return openflow.FlowMod{Command: openflow.Add, Flow: f} }
