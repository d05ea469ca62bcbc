package attach

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"sync"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/internal/httpframe"
)

// phase is where a relayed connection is between its requests and its answers.
type phase uint8

const (
	idle      phase = iota // the next request may be sent
	answering              // a request was sent, and its answer is not complete
	tunnel                 // something else is spoken from here on
	over                   // no request is answered any more; the last answer is complete
	lost                   // the same, and the answer runs until the application closes
	moved                  // the connection is elsewhere, or refused: the application has no part in it
)

// conversation is one HTTP connection being relayed. One goroutine passes
// requests on, one at a time, and another the answers. Octets are passed as they
// are, but for a field that tells who the client is.
type conversation struct {
	*relay
	cfg  *RelayConfig
	meta Meta
	ctx  context.Context // ends the session
	log  *slog.Logger

	fromClient, fromBackend *socket
	parser                  *httphead.Parser
	maxHead                 int // octets
	headTimeout             time.Duration

	vacancy vacancy
	changed chan struct{} // says that phase changed; capacity 1

	mu     sync.Mutex       // held while the connection moves
	phase  phase            // guarded by mu
	method httpframe.Method // of the request that is answered; guarded by mu
	begun  bool             // its answer has begun; guarded by mu
}

// relayHTTP relays the requests of a connection until it ends or moves. open,
// which may be nil, knows it meanwhile.
func relayHTTP(ctx context.Context, client, backend *net.TCPConn, cfg *RelayConfig, m Meta, open *conversations, log *slog.Logger) (Stats, error) {
	c := &conversation{relay: newRelayOf(client, backend, cfg.Timeouts), cfg: cfg, meta: m, ctx: ctx, log: log, changed: make(chan struct{}, 1),
		maxHead: cfg.MaxHead, headTimeout: cfg.HeadTimeout}
	if cfg.Limits != nil {
		maxHead, headTimeout := cfg.Limits(m.Service)
		c.maxHead, c.headTimeout = cmp.Or(maxHead, c.maxHead), cmp.Or(headTimeout, c.headTimeout)
	}
	c.parser = httphead.NewParser(c.maxHead)
	var err error
	if c.fromClient, err = newSocket(client); err == nil {
		c.fromBackend, err = newSocket(backend)
	}
	if err != nil {
		return c.close(err)
	}
	stop := context.AfterFunc(ctx, c.interrupt)
	defer stop()
	defer open.add(c)()
	up := make(chan error, 1)
	go func() { up <- c.direction(c.requests(), "the client to the application") }()
	down := c.direction(c.answers(), "the application to the client")
	return c.close(errors.Join(down, <-up))
}

// direction ends the other one if this one failed.
func (c *conversation) direction(err error, what string) error {
	if err == nil {
		return nil
	}
	c.interrupt()
	return fmt.Errorf("relay from %s: %w", what, err)
}

// close closes both ends, by RST if there was an error.
func (c *conversation) close(err error) (Stats, error) {
	if c.ctx.Err() != nil && err != nil {
		err = fmt.Errorf("relay ended: %w", context.Cause(c.ctx))
	}
	c.end(err != nil)
	return c.stats, err
}

// enter changes the phase; what is over stays so.
func (c *conversation) enter(p phase) {
	c.mu.Lock()
	if c.phase < over {
		c.phase = p
	}
	c.mu.Unlock()
	select {
	case c.changed <- struct{}{}:
	default:
	}
}

// begin makes a request the one that is answered next, unless the application
// has ended the connection.
func (c *conversation) begin(m httpframe.Method) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.phase != idle {
		return false
	}
	c.phase, c.method, c.begun = answering, m, false
	return true
}

// turn waits until the answer before is complete. The goroutine of the answers
// always ends, and says so.
func (c *conversation) turn() phase {
	for {
		if p := c.currentPhase(); p != answering {
			return p
		}
		<-c.changed
	}
}

func (c *conversation) currentPhase() phase {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.phase
}

// receive is the socket's, and obeys the limits for idle sessions.
func (c *conversation) receive(s *socket, limit int, peek bool) ([]byte, error) {
	for {
		b, err := s.receive(limit, peek)
		if err == nil {
			c.touch()
			return b, nil
		}
		if err = c.again(s.TCPConn, err); err != nil {
			return nil, err
		}
	}
}

// again returns nil if what failed may be tried again: a deadline was reached
// that is only there to look at the clock.
func (c *conversation) again(src *net.TCPConn, err error) error {
	if errors.Is(err, os.ErrDeadlineExceeded) && !c.failed.Load() {
		return c.extend(src)
	}
	return err
}

// spliceMin is the length from which a run of octets is moved by splice.
const spliceMin = bufferSize

// plain passes on what means nothing for the framing of m, as far as it goes.
// The error is io.EOF at src's FIN.
func (c *conversation) plain(dst, src *net.TCPConn, m *httpframe.Message, count *int64) error {
	for {
		left := m.Plain()
		if left < spliceMin {
			return nil
		}
		part := left
		if c.timeouts.Idle > 0 {
			part = min(left, chunk)
		}
		n, err := dst.ReadFrom(&io.LimitedReader{R: src, N: part})
		*count += n
		m.Skip(n)
		if n > 0 {
			c.touch()
		}
		if err == nil && n < part {
			err = io.EOF
		}
		if errors.Is(err, os.ErrDeadlineExceeded) {
			err = c.again(src, err)
		}
		if err != nil {
			return err
		}
	}
}

// move hands the connection over to the node. It reports false if it goes on here.
func (c *conversation) move(node string) bool {
	return c.handOver(node, func(fd int) error { return c.cfg.Router.Move(c.ctx, fd, c.meta, node) })
}

func (c *conversation) handOver(node string, to func(fd int) error) bool {
	fd, err := duplicateOf(c.fromClient.raw)
	if err != nil {
		c.log.Warn("a connection does not move", "session", c.meta.ID, "err", err)
		return false
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	// The application may have said something, such as a FIN, which is then on
	// its way to the client.
	if c.phase == idle && !c.failed.Load() {
		begun := time.Now()
		if err = to(fd); err == nil {
			c.phase = moved
			c.client.Close() // a copy; that of Router was the connection
			c.backend.Close()
			c.log.Debug("a relayed session moved", "session", c.meta.ID, "client", c.meta.Client, "to", node, "took", time.Since(begun))
			return true
		}
		c.log.Info("a connection does not move; its next request is answered here", "session", c.meta.ID, "client", c.meta.Client, "to", node, "err", err)
	}
	syscall.Close(fd)
	return false
}
