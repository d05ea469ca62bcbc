package controller

import (
	"cmp"
	"context"
	"net/netip"
	"slices"
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/controller/api"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// listTimeout is how long a list of all sessions waits for agents.
const listTimeout = 2 * time.Second

// listing is the latest list of all sessions. One is made at a time, and all
// callers that came before it was begun share it. The zero value is ready.
type listing struct {
	mu    sync.Mutex // held while a list is made; guards what follows
	begun time.Time
	list  []*shuntv1.SessionInfo
}

// Sessions lists every session of the cluster: what the agents' kernels hold,
// put together with what the switch steers.
func (c *cluster) Sessions(ctx context.Context) ([]*shuntv1.SessionInfo, error) {
	came := time.Now()
	c.listing.mu.Lock()
	defer c.listing.mu.Unlock()
	if c.listing.begun.After(came) {
		return c.listing.list, nil
	}
	asked := time.Now()
	held := c.ask(ctx, asked)
	if err := ctx.Err(); err != nil {
		return nil, err
	}
	c.listing.list, c.listing.begun = c.merge(asked, held), asked
	return c.listing.list, nil
}

// ask asks every connected agent what it holds and returns the answers of
// those that do so in time.
func (c *cluster) ask(ctx context.Context, now time.Time) map[string][]api.Held {
	ctx, cancel := context.WithTimeout(ctx, listTimeout)
	defer cancel()
	type answer struct {
		node string
		held []api.Held
	}
	names := c.links.names()
	answers := make(chan answer, len(names)) // never blocks: one answer each
	waiting := 0
	for _, n := range names {
		if c.links.send(n, c.queries.ask(n, now, func(held []api.Held) { answers <- answer{n, held} })) {
			waiting++
		}
	}
	out := make(map[string][]api.Held, waiting)
	for len(out) < waiting {
		select {
		case a := <-answers:
			out[a.node] = a.held
		case <-ctx.Done():
			return out
		}
	}
	return out
}

// merge makes one line per session of what the nodes hold and what the table
// has. During a hand-off two nodes hold a session: the server's line wins.
func (c *cluster) merge(asked time.Time, held map[string][]api.Held) []*shuntv1.SessionInfo {
	v := c.view.Load()
	lines := make(map[registry.Key]*shuntv1.SessionInfo)
	switched := make(map[registry.Key]string) // the node that the switch sends it to
	for _, p := range c.switches.Sessions() {
		if p.Confirmed {
			switched[registry.Key{Client: p.Client, VIP: p.VIP}] = p.Node
		}
	}
	elsewhere := func(s registry.Session) {
		path := shuntv1.Path_PATH_DIVERTED
		if switched[s.Key()] == s.Node {
			path = shuntv1.Path_PATH_SWITCHED
		}
		lines[s.Key()] = line(s, path)
	}
	c.mu.Lock()
	for t := range c.sessions.All() {
		_, answered := held[t.Node]
		// A node that answered lists what it holds; what it was sent only
		// just now it may not hold yet.
		if t.Ending || answered && t.Since.Before(asked) {
			continue
		}
		elsewhere(t.Session)
	}
	c.mu.Unlock()
	for node, list := range held {
		for _, h := range list {
			s, ok := v.session(h.Client, h.Local)
			if !ok || s.Home == node {
				continue
			}
			s.Node = node
			elsewhere(s)
		}
	}
	for node, list := range held {
		for _, h := range list {
			s, ok := v.session(h.Client, h.Local)
			if !ok || s.Home != node || lines[s.Key()] != nil {
				continue
			}
			if s.Node = node; h.Path == shuntv1.Path_PATH_PROXIED && h.ProxiedTo != "" {
				s.Node = h.ProxiedTo
			}
			// A diversion alone says nothing about where the session is.
			if h.Path == shuntv1.Path_PATH_DISPATCHER || h.Path == shuntv1.Path_PATH_PROXIED {
				lines[s.Key()] = line(s, h.Path)
			}
		}
	}
	return sorted(lines)
}

func line(s registry.Session, p shuntv1.Path) *shuntv1.SessionInfo {
	return &shuntv1.SessionInfo{Session: shuntv1.SessionOf(s.Client, s.Local), Service: s.Service, Node: s.Node, Path: p}
}

func sorted(lines map[registry.Key]*shuntv1.SessionInfo) []*shuntv1.SessionInfo {
	keys := make([]registry.Key, 0, len(lines))
	for k := range lines {
		keys = append(keys, k)
	}
	compare := netip.AddrPort.Compare
	slices.SortFunc(keys, func(a, b registry.Key) int {
		return cmp.Or(compare(a.Client, b.Client), compare(a.VIP, b.VIP))
	})
	out := make([]*shuntv1.SessionInfo, len(keys))
	for i, k := range keys {
		out[i] = lines[k]
	}
	return out
}
