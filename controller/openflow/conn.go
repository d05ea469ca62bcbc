package openflow

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"slices"
	"sync"
	"sync/atomic"
	"time"
)

// Config tunes a channel. The zero value works.
type Config struct {
	Log          *slog.Logger  // nil: none
	EchoInterval time.Duration // silence after which the peer is asked for an echo; 0: 5 s
	EchoTimeout  time.Duration // silence after the question that ends the channel; 0: 5 s
	MaxMessage   int           // octets of the longest message accepted; 0: MaxMessageLen
	Counts       *Counts       // counts messages; nil: nobody does
}

func (c Config) withDefaults() Config {
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if c.EchoInterval <= 0 {
		c.EchoInterval = 5 * time.Second
	}
	if c.EchoTimeout <= 0 {
		c.EchoTimeout = 5 * time.Second
	}
	return c
}

const (
	// replyTimeout ends a channel whose peer answers echoes but not a barrier
	// or a request. The slowest legitimate answer known is Open vSwitch's to
	// tens of thousands of flow_mods with idle timeouts, a few seconds.
	replyTimeout = 60 * time.Second
	// maxUrgent bounds the answers (echo replies, errors) that wait for a peer
	// that does not read.
	maxUrgent = 64
	// maxMultipart bounds what one request may make the peer send us.
	maxMultipart = 256 << 20
)

// ErrClosed is in every error of a request that the channel's end cut off.
var ErrClosed = errors.New("OpenFlow channel closed")

// ErrSilent is why Run returns when the peer stopped answering.
var ErrSilent = errors.New("the switch does not answer echo requests")

// A Conn is an OpenFlow 1.3 channel to one switch, past its handshake. Its
// methods may be called from many goroutines, from when Handshake returns; they
// make progress while Run runs.
type Conn struct {
	cfg      Config
	nc       net.Conn
	rd       *Reader
	features Features
	desc     Desc

	ran    atomic.Bool
	closed chan struct{} // closed by fail
	heard  atomic.Int64  // when the last message came, in time since start
	start  time.Time

	events    *eventQueue
	badFrames uint64 // messages that did not decode; the reader's

	mu        sync.Mutex // guards all below
	changed   sync.Cond  // of mu: queue, urgent, batches, room, err
	err       error      // why the channel ended; set once
	ended     bool       // nothing more will be completed
	ports     map[uint32]Port
	xid       uint32
	queue     []*op
	sending   *op      // an op that is sent in part
	batches   []*batch // sent, barrier reply outstanding, in order
	held      int      // messages of ops that are queued or in flight
	urgent    []Message
	calls     map[uint32]*call
	completed []func() // callbacks to run
	wake      sync.Cond
}

func newConn(nc net.Conn, rd *Reader, cfg Config) *Conn {
	c := &Conn{
		cfg: cfg, nc: nc, rd: rd, start: time.Now(), closed: make(chan struct{}),
		ports: map[uint32]Port{}, calls: map[uint32]*call{}, events: newEventQueue(), xid: firstXid,
	}
	c.changed.L = &c.mu
	c.wake.L = &c.mu
	return c
}

// DatapathID identifies the switch.
func (c *Conn) DatapathID() uint64 { return c.features.DatapathID }

// Features is what the switch said of itself at the handshake.
func (c *Conn) Features() Features { return c.features }

// Description is the switch's description of itself; zero when it has none.
func (c *Conn) Description() Desc { return c.desc }

// RemoteAddr is the peer's address.
func (c *Conn) RemoteAddr() string { return c.nc.RemoteAddr().String() }

// Ports lists the switch's ports by number, as of the last port status.
func (c *Conn) Ports() []Port {
	c.mu.Lock()
	defer c.mu.Unlock()
	ports := make([]Port, 0, len(c.ports))
	for _, p := range c.ports {
		ports = append(ports, p)
	}
	slices.SortFunc(ports, func(a, b Port) int { return cmp.Compare(a.No, b.No) })
	return ports
}

// Events delivers PacketIn, PortStatus, FlowRemoved and those *SwitchError that
// answer no request waited for, in the order of arrival. The consumer may be
// slow: at most 1024 events wait, and packet-ins are dropped first (see
// DroppedPacketIns). The channel is closed when Run returns.
func (c *Conn) Events() <-chan Event { return c.events.out }

// DroppedPacketIns counts packet-ins that came faster than Events was read.
func (c *Conn) DroppedPacketIns() uint64 { return c.events.droppedPacketIns() }

// Run serves the channel until it fails, the peer closes it, or ctx ends, and
// returns why. Requests that are then unanswered fail with ErrClosed. All
// goroutines of the channel have ended, and all callbacks have returned, when
// Run returns. It may be called once.
func (c *Conn) Run(ctx context.Context) error {
	if c.ran.Swap(true) {
		return errors.New("openflow: Run was called before")
	}
	stop := context.AfterFunc(ctx, func() { c.fail(context.Cause(ctx)) })
	defer stop()
	c.touch()
	var loops, callbacks sync.WaitGroup
	loops.Go(c.writeLoop)
	loops.Go(c.watchLoop)
	loops.Go(func() { c.events.pump(c.closed) })
	callbacks.Go(c.completeLoop)

	c.fail(c.readLoop())
	loops.Wait()
	c.abandon()
	callbacks.Wait()
	close(c.events.out)
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

// Close ends the channel; Run returns soon after.
func (c *Conn) Close() error {
	c.fail(net.ErrClosed)
	return nil
}

// fail ends the channel. The first reason counts.
func (c *Conn) fail(err error) {
	c.mu.Lock()
	first := c.err == nil
	if first {
		c.err = err
		close(c.closed)
		c.changed.Broadcast()
	}
	c.mu.Unlock()
	if first {
		c.nc.Close() // may take seconds with TLS and a peer that hangs
	}
}

// closedErr is the error of requests after the channel's end. It needs mu.
func (c *Conn) closedErr() error { return fmt.Errorf("%w: %w", ErrClosed, c.err) }

func (c *Conn) touch() { c.heard.Store(int64(time.Since(c.start))) }

func (c *Conn) silence() time.Duration {
	return time.Since(c.start) - time.Duration(c.heard.Load())
}

func (c *Conn) readLoop() error {
	for {
		m, err := c.rd.Next()
		if err != nil {
			var frame *FrameError
			switch {
			case errors.As(err, &frame):
				c.lastWords(frame.Reply())
				return err
			case errors.Is(err, io.EOF):
				return fmt.Errorf("the switch closed the channel: %w", err)
			}
			return fmt.Errorf("read from the switch: %w", err)
		}
		c.touch()
		c.cfg.Counts.read(m)
		if m.Version() != Version {
			if m.Type() != TypeError {
				c.lastWords(EncodeError(m.Xid(), BadRequestBadVersion, m))
			}
			return fmt.Errorf("the switch sent a %v of OpenFlow version %d after it agreed on 1.3 (%d)", m.Type(), m.Version(), Version)
		}
		if err := c.dispatch(m); err != nil {
			return err
		}
	}
}

// lastWords tells the peer why the channel ends, if it can be told at once. The
// write may meet the writer's; both are whole messages under net.Conn's lock.
func (c *Conn) lastWords(m Message) {
	_ = c.nc.SetWriteDeadline(time.Now().Add(100 * time.Millisecond))
	_, _ = c.nc.Write(m) // the channel ends with a better error
}

// dispatch handles one message. Its error ends the channel.
func (c *Conn) dispatch(m Message) error {
	switch m.Type() {
	case TypeEchoReply, TypeHello:
		return nil
	case TypeEchoRequest:
		return c.sendUrgent(EncodeEchoReply(m))
	case TypeBarrierReply:
		return c.barrierReplied(m.Xid())
	case TypeMultipartReply:
		return c.multipartReplied(m)
	case TypeRoleReply, TypeGetConfigReply, TypeGetAsyncReply, TypeFeaturesReply:
		c.replied(m.Xid(), m)
		return nil
	case TypeError:
		e, err := ParseErrorMessage(m)
		if err != nil {
			c.malformed(m, err)
			return nil
		}
		c.errorReplied(e)
		return nil
	case TypePacketIn:
		return event(c, m, ParsePacketIn)
	case TypeFlowRemoved:
		return event(c, m, ParseFlowRemoved)
	case TypePortStatus:
		s, err := ParsePortStatus(m)
		if err != nil {
			c.malformed(m, err)
			return nil
		}
		c.portChanged(s)
		return c.events.put(s)
	}
	c.malformed(m, malformed(BadRequestBadType, "%v is not for a controller", m.Type()))
	return c.sendUrgent(EncodeError(m.Xid(), BadRequestBadType, m))
}

func event[E Event](c *Conn, m Message, parse func(Message) (E, error)) error {
	e, err := parse(m)
	if err != nil {
		c.malformed(m, err)
		return nil
	}
	return c.events.put(e)
}

// malformed notes a message that cannot be used. The stream is still in step,
// so the channel goes on; the log gets every power of two of them.
func (c *Conn) malformed(m Message, err error) {
	c.badFrames++
	if n := c.badFrames; n&(n-1) == 0 {
		c.cfg.Log.Warn("ignored a message from the switch", "type", m.Type(), "xid", m.Xid(), "err", err, "ignored so far", n)
	}
}

func (c *Conn) portChanged(s PortStatus) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if s.Reason == PortDeleted {
		delete(c.ports, s.Port.No)
	} else if _, known := c.ports[s.Port.No]; known || len(c.ports) < 65536 {
		c.ports[s.Port.No] = s.Port
	}
}

// sendUrgent queues an answer ahead of everything else.
func (c *Conn) sendUrgent(m Message) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.urgent) >= maxUrgent {
		return fmt.Errorf("%d answers wait for a switch that asks but does not read", maxUrgent)
	}
	c.urgent = append(c.urgent, m)
	c.changed.Broadcast()
	return nil
}

// watchLoop ends the channel when the peer is silent or owes an answer.
func (c *Conn) watchLoop() {
	timer := time.NewTimer(0)
	defer timer.Stop()
	wait := func(d time.Duration) bool {
		timer.Reset(d)
		select {
		case <-c.closed:
			return false
		case <-timer.C:
			return true
		}
	}
	<-timer.C
	for {
		if !wait(max(c.cfg.EchoInterval-c.silence(), time.Millisecond)) {
			return
		}
		if err := c.overdue(); err != nil {
			c.fail(err)
			return
		}
		if c.silence() < c.cfg.EchoInterval {
			continue
		}
		asked := c.heard.Load()
		c.mu.Lock()
		xid := c.takeXids(1)
		c.mu.Unlock()
		if err := c.sendUrgent(EncodeEchoRequest(xid, nil)); err != nil {
			c.fail(err)
			return
		}
		if !wait(c.cfg.EchoTimeout) {
			return
		}
		if c.heard.Load() == asked {
			c.fail(fmt.Errorf("%w: nothing heard for %v", ErrSilent, c.silence().Round(time.Millisecond)))
			return
		}
	}
}

// overdue is the reason to give up on a peer that is alive but owes an answer.
func (c *Conn) overdue() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.batches) > 0 && time.Since(c.batches[0].sent) > replyTimeout {
		return fmt.Errorf("the switch did not answer a barrier (xid %#x) for %v", c.batches[0].xid, replyTimeout)
	}
	return nil
}
