package controller

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/fabric"
)

// recorder is switches that write down what they are told. Steer is confirmed
// at once, unless held or failing.
type recorder struct {
	mu         sync.Mutex
	calls      []string
	topologies []fabric.Topology
	paths      map[netip.AddrPort]fabric.SessionPath // by client
	fail       error                                 // of Steer
	hold       bool                                  // Steer's answers
	held       []func(error)
	alive      func(node string) (bool, error) // nil: nobody can tell
}

func newRecorder() *recorder { return &recorder{paths: make(map[netip.AddrPort]fabric.SessionPath)} }

func (r *recorder) note(format string, args ...any) {
	r.calls = append(r.calls, fmt.Sprintf(format, args...))
}

func (r *recorder) Run(ctx context.Context, l net.Listener, _ func() *tls.Config) error {
	<-ctx.Done()
	if l != nil {
		l.Close()
	}
	return ctx.Err()
}

func (r *recorder) SetTopology(t fabric.Topology) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.topologies = append(r.topologies, t)
}

func (r *recorder) Follow(context.Context) error { return nil }

func (r *recorder) Steer(s fabric.Session, done func(error)) {
	r.mu.Lock()
	r.note("steer %v>%v at %v to %s by %q", s.Client, s.VIP, s.Local, s.Node, s.ID)
	r.paths[s.Client] = fabric.SessionPath{Session: s, Confirmed: r.fail == nil && !r.hold}
	err, held := r.fail, r.hold
	if held {
		r.held = append(r.held, done)
	}
	r.mu.Unlock()
	if done != nil && !held {
		done(err)
	}
}

func (r *recorder) Unsteer(client, _ netip.AddrPort, id string, done func(error)) {
	r.mu.Lock()
	r.note("unsteer %v by %q", client, id)
	delete(r.paths, client)
	r.mu.Unlock()
	if done != nil {
		done(nil)
	}
}

func (r *recorder) End(client, _ netip.AddrPort) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.note("end %v", client)
	delete(r.paths, client)
}

func (r *recorder) Replace(all []fabric.Session) {
	r.mu.Lock()
	defer r.mu.Unlock()
	var text []string
	for _, s := range all {
		text = append(text, fmt.Sprintf("%v=%s", s.Client, s.Node))
		r.paths[s.Client] = fabric.SessionPath{Session: s, Confirmed: true}
	}
	slices.Sort(text)
	r.note("replace [%s]", strings.Join(text, " "))
}

func (r *recorder) Status() []fabric.SwitchStatus {
	return []fabric.SwitchStatus{{DPID: 1, Connected: true, Steering: "flows", Flows: 42}}
}

func (r *recorder) Sessions() (all []fabric.SessionPath) {
	r.mu.Lock()
	defer r.mu.Unlock()
	for _, p := range r.paths {
		all = append(all, p)
	}
	return all
}

func (r *recorder) Alive(_ context.Context, node string) (bool, error) {
	r.mu.Lock()
	alive := r.alive
	r.note("is %s alive", node)
	r.mu.Unlock()
	if alive == nil {
		return false, fabric.ErrCannotTell
	}
	return alive(node)
}

func (r *recorder) Flows(context.Context) ([]fabric.FlowInfo, error) { return nil, nil }

func (r *recorder) did() []string {
	r.mu.Lock()
	defer r.mu.Unlock()
	return slices.Clone(r.calls)
}

// saw waits for a call.
func (r *recorder) saw(t *testing.T, call string) {
	t.Helper()
	eventually(t, call, func() bool { return slices.Contains(r.did(), call) })
}

// topology returns the latest one.
func (r *recorder) topology() fabric.Topology {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.topologies) == 0 {
		return fabric.Topology{}
	}
	return r.topologies[len(r.topologies)-1]
}

func eventually(t *testing.T, what string, ok func() bool) {
	t.Helper()
	poll := time.NewTicker(2 * time.Millisecond)
	defer poll.Stop()
	for deadline := time.Now().Add(20 * time.Second); !ok(); <-poll.C {
		if time.Now().After(deadline) {
			t.Fatalf("not within 20 s: %s", what)
		}
	}
}
