package api

import (
	"context"
	"sync"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	// maxQueue is how many messages wait for an agent that does not read.
	maxQueue = 1 << 15
	// configGap is the least time between two configurations, apart from the
	// first: a burst of changes becomes one message.
	configGap = 20 * time.Millisecond
)

// Link is the way to one connected agent. Its methods never block.
type Link struct {
	wake chan struct{}
	done chan struct{}

	mu      sync.Mutex          // guards what follows
	config  *shuntv1.NodeConfig // to go out
	version uint64              // of the latest
	latest  *shuntv1.NodeConfig // that was given
	whole   bool                // the next one carries the whole policy
	queue   []*shuntv1.AttachResponse
	err     error // set once done is closed
}

// NewLink returns a link whose messages wait until an agent takes them.
func NewLink() *Link {
	return &Link{wake: make(chan struct{}, 1), done: make(chan struct{})}
}

// Configure sends a configuration, unless a later one was given already. One
// that has not gone out yet is replaced.
func (l *Link) Configure(c *shuntv1.NodeConfig) {
	l.mu.Lock()
	if c.Version > l.version {
		l.config, l.latest, l.version = c, c, c.Version
	}
	l.mu.Unlock()
	l.signal()
}

// Repeat sends the latest configuration again, with the whole policy: the agent
// could do nothing with a delta.
func (l *Link) Repeat() {
	l.mu.Lock()
	l.config, l.whole = l.latest, true
	l.mu.Unlock()
	l.signal()
}

// Send sends any other message, in order. It closes the link if too many wait.
func (l *Link) Send(m *shuntv1.AttachResponse) {
	l.mu.Lock()
	full := len(l.queue) >= maxQueue
	if !full {
		l.queue = append(l.queue, m)
	}
	l.mu.Unlock()
	if full {
		l.Close(status.Errorf(codes.ResourceExhausted, "%d messages wait for the agent, which does not read them", maxQueue))
		return
	}
	l.signal()
}

// Close ends the agent's stream with err, a status. Only the first call counts.
func (l *Link) Close(err error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.err == nil {
		l.err = err
		close(l.done)
	}
}

// Done is closed by Close.
func (l *Link) Done() <-chan struct{} { return l.done }

func (l *Link) cause() error {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.err
}

func (l *Link) signal() {
	select {
	case l.wake <- struct{}{}:
	default:
	}
}

// take returns what is to go out now: a configuration if it may go already.
func (l *Link) take(withConfig bool) (c *shuntv1.NodeConfig, whole bool, queue []*shuntv1.AttachResponse) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if withConfig {
		if c, l.config = l.config, nil; c != nil {
			whole, l.whole = l.whole, false
		}
	}
	queue, l.queue = l.queue, nil
	return c, whole, queue
}

// deliver sends what comes until ctx ends, the link is closed or send fails.
func (l *Link) deliver(ctx context.Context, send func(*shuntv1.AttachResponse) error) error {
	gap := time.NewTimer(0)
	defer gap.Stop()
	open := false                    // a configuration may go
	var sent *shuntv1.PolicySnapshot // the whole of what the agent has
	for {
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-l.done:
			return l.cause()
		case <-gap.C:
			open = true
		case <-l.wake:
		}
		config, whole, queue := l.take(open)
		if config != nil {
			open = false
			gap.Reset(configGap)
			policy := config.Policy
			if !whole {
				config = withDelta(config, sent)
			}
			sent = policy
			m := &shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_Config{Config: config}}
			if err := send(m); err != nil {
				return err
			}
		}
		for _, m := range queue {
			if err := send(m); err != nil {
				return err
			}
		}
	}
}
