package peer

import (
	"context"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// A Pool holds the links to all targets.
type Pool struct {
	// Offering, if not nil, is shown every hand-off before it is sent, and may
	// add to it. It is set before the first Set.
	Offering func(*shuntv1.Import)

	creds credentials.TransportCredentials
	log   *slog.Logger
	epoch time.Time

	mu     sync.RWMutex
	links  map[string]*entry
	closed bool
	wg     sync.WaitGroup
}

type entry struct {
	link   *Link
	cancel context.CancelFunc
}

// NewPool returns an empty pool. creds secure every link.
func NewPool(creds credentials.TransportCredentials, log *slog.Logger) *Pool {
	return &Pool{creds: creds, log: log, epoch: time.Now(), links: make(map[string]*entry)}
}

// Set makes the links equal to targets, a map of node names to endpoints.
// Links that stay are not touched.
func (p *Pool) Set(targets map[string]string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.closed {
		return
	}
	for node, e := range p.links {
		if targets[node] != e.link.endpoint {
			e.cancel()
			delete(p.links, node)
		}
	}
	for node, endpoint := range targets {
		if p.links[node] != nil || endpoint == "" {
			continue
		}
		l, err := newLink(node, endpoint, p.creds, p.epoch, p.log)
		if err != nil {
			p.log.Error("cannot link to a node's agent", "node", node, "endpoint", endpoint, "err", err)
			continue
		}
		l.offering = p.Offering
		ctx, cancel := context.WithCancel(context.Background())
		p.wg.Go(func() {
			defer l.conn.Close()
			l.run(ctx)
		})
		p.links[node] = &entry{link: l, cancel: cancel}
	}
}

// Link returns the link to a node, or nil.
func (p *Pool) Link(node string) *Link {
	p.mu.RLock()
	defer p.mu.RUnlock()
	if e := p.links[node]; e != nil {
		return e.link
	}
	return nil
}

// Close ends every link and waits for them.
func (p *Pool) Close() {
	p.mu.Lock()
	links := p.links
	p.links, p.closed = nil, true
	p.mu.Unlock()
	for _, e := range links {
		e.cancel()
	}
	p.wg.Wait()
}
