package agent

import (
	"time"

	"github.com/shunt-sdn/shunt/agent/config"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// How a dispatcher stops without a connection lost.
const (
	// heardWithin is what the controller has to tell the cluster of it.
	heardWithin = time.Second
	// quietFor is for how long no new connection must have come: what Open vSwitch
	// has cached follows its flows later, and nothing tells when.
	quietFor = 250 * time.Millisecond
	// doneWithin is when it stops whatever still comes or is here.
	doneWithin = 3 * time.Second
)

// dispatcherState is what others are told of this node's dispatcher.
func (a *agent) dispatcherState() shuntv1.DispatcherState {
	switch {
	case !a.cfg.Has(config.Dispatcher):
	case a.leaving.Load():
		return shuntv1.DispatcherState_DISPATCHER_STATE_LEAVING
	case !a.open.Load():
		return shuntv1.DispatcherState_DISPATCHER_STATE_STARTING
	}
	return shuntv1.DispatcherState_DISPATCHER_STATE_UNSPECIFIED
}

// makeWay has other dispatchers take the new connections, where there are any,
// and goes on until those that are here are handed off. Those that are copied are
// not waited for.
func (a *agent) makeWay() {
	if v, _ := a.view(); !v.replaceable() || !a.control.Connected() {
		return
	}
	a.leaving.Store(true)
	a.control.ReportNow()
	a.log.Info("stopping: other dispatchers take the new connections")
	late := time.NewTimer(heardWithin)
	defer late.Stop()
	select {
	case <-a.left:
	case <-late.C:
		a.log.Warn("the controller does not say that other dispatchers take the new connections; stopping all the same")
		return
	}
	a.dispatcher.AwaitQuiet(quietFor, doneWithin)
}

// replaceable says whether every connection to a session address of this node
// could go to another dispatcher.
func (v view) replaceable() bool {
	for _, s := range v.shared {
		if len(s.with) == 0 {
			return false
		}
		others := false
		for _, x := range s.with {
			others = others || x.accepts && x.session != s.local
		}
		if !others {
			return false
		}
	}
	return len(v.shared) > 0
}
