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
	// doneWithin is what the requests that are here have to be handed off.
	doneWithin = 3 * time.Second
	// leftWithin is when it stops whatever still comes or is here.
	leftWithin = 10 * time.Second
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
	if !a.control.Connected() || !a.replaced() {
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
	if !a.dispatcher.AwaitQuiet(quietFor, doneWithin, leftWithin) {
		a.log.Warn("the switches still send new connections, or requests are still here; stopping all the same")
	}
}

// replaced says whether every connection to a session address of this node can go
// to another dispatcher. One that is just starting is waited for.
func (a *agent) replaced() bool {
	for end := time.Now().Add(heardWithin); ; time.Sleep(10 * time.Millisecond) {
		v, _ := a.view()
		now, soon := v.replaceable()
		if now || !soon || time.Now().After(end) {
			return now
		}
	}
}

// replaceable says whether every connection to a session address of this node
// can go to another dispatcher now, and whether it could once those have started
// that are starting.
func (v view) replaceable() (now, soon bool) {
	now, soon = len(v.shared) > 0, len(v.shared) > 0
	for _, s := range v.shared {
		accepts, starts := false, false
		for _, x := range s.with {
			other := x.session != s.local
			accepts = accepts || other && x.accepts()
			starts = starts || other && x.state == shuntv1.DispatcherState_DISPATCHER_STATE_STARTING
		}
		now, soon = now && accepts, soon && (accepts || starts)
	}
	return now, soon
}
