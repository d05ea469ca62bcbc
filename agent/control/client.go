// Package control is the agent's end of the stream to the controller. The
// stream may be down at any time: what must not be lost is sent again as a
// whole (Sync) when it is back, and the rest is an optimisation.
package control

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Options of a Client. The functions are called from the client's goroutines,
// one at a time each.
type Options struct {
	Target string // host:port
	Creds  credentials.TransportCredentials
	Log    *slog.Logger

	Hello func() *shuntv1.Hello // describes this agent
	// Await, if not nil, is called before a query is answered. It waits, for some
	// milliseconds at most, for the records of hand-offs that are as good as through.
	Await func()
	// Sync lists the kernel's sessions: in answer to a query, or with 0 of itself.
	Sync    func(ctx context.Context, query uint64) (*shuntv1.Sync, error)
	Report  func() *shuntv1.Report    // counters
	Config  func(*shuntv1.NodeConfig) // a new configuration
	Release func(*shuntv1.Release)    // forget a diversion
	Lost    func(*shuntv1.NodeLost)   // a node is dead
}

const (
	queueLength = 8192
	keptRecords = 10_000
	reportEvery = time.Second
	// newsDelay is how long news waits for more of it.
	newsDelay = 50 * time.Millisecond
	// restWithin is for how long the controller may take in what is left to say when
	// the agent stops.
	restWithin = time.Second
)

// ErrDisconnected says that a message could not be handed to the stream.
var ErrDisconnected = errors.New("control: not connected to the controller")

// A Client keeps the stream open.
type Client struct {
	o         Options
	connected atomic.Bool
	resync    chan struct{} // a Sync is due: something was dropped
	nudge     chan struct{} // a Report is due: readiness changed

	mu    sync.Mutex                  // guards what follows
	queue chan *shuntv1.AttachRequest // nil while disconnected
	steer map[string]func(error)      // waiting for SteerDone, by hand-off
	kept  []*shuntv1.AttachRequest    // records of hand-offs that wait to be sent
}

// New returns a client that is not yet connected.
func New(o Options) *Client {
	return &Client{o: o, resync: make(chan struct{}, 1), nudge: make(chan struct{}, 1), steer: make(map[string]func(error))}
}

// Connected tells whether the controller is there.
func (c *Client) Connected() bool { return c.connected.Load() }

// Run keeps the stream open until ctx ends.
func (c *Client) Run(ctx context.Context) error {
	conn, err := grpc.NewClient("passthrough:///"+c.o.Target,
		grpc.WithTransportCredentials(c.o.Creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 2 * time.Second},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 3 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(64<<20), grpc.MaxCallSendMsgSize(64<<20)),
		// Fixed windows: no probes of the bandwidth beside every message.
		grpc.WithStaticStreamWindowSize(1<<20), grpc.WithStaticConnWindowSize(4<<20),
	)
	if err != nil {
		return fmt.Errorf("control: controller at %s: %w", c.o.Target, err)
	}
	defer conn.Close()
	api := shuntv1.NewControlServiceClient(conn)
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-wait.C:
		}
		err := c.session(ctx, api)
		if ctx.Err() == nil {
			c.o.Log.Warn("the stream to the controller ended; sessions go on without it", "controller", c.o.Target, "err", err)
		}
		wait.Reset(200 * time.Millisecond)
	}
}

func (c *Client) session(ctx context.Context, api shuntv1.ControlServiceClient) error {
	// The stream outlives ctx by what is left to say.
	life, cancel := context.WithCancel(context.WithoutCancel(ctx))
	ended := context.AfterFunc(ctx, cancel)
	stream, err := api.Attach(life, grpc.WaitForReady(true))
	if !ended() {
		err = ctx.Err()
	}
	if err != nil {
		cancel()
		return err
	}
	// Sessions that end from here on are queued behind the list of sessions.
	queue := make(chan *shuntv1.AttachRequest, queueLength)
	c.mu.Lock()
	c.queue = queue
	c.mu.Unlock()
	var writer sync.WaitGroup
	defer func() {
		writer.Wait()
		c.keepUnsent(queue)
	}()
	defer cancel()
	defer c.disconnected()
	queries := make(chan uint64, 16)
	configured := make(chan struct{})
	over := make(chan struct{})
	defer close(over)
	writer.Go(func() {
		defer cancel()
		if err := c.write(ctx, stream, configured, queue, queries, over); err != nil && ctx.Err() == nil {
			c.o.Log.Warn("cannot write to the controller", "err", err)
		}
	})
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		switch m := m.Message.(type) {
		case *shuntv1.AttachResponse_Config:
			c.o.Config(m.Config)
			if !c.connected.Swap(true) {
				c.o.Log.Info("connected to the controller", "controller", c.o.Target)
				close(configured)
			}
		case *shuntv1.AttachResponse_SteerDone:
			var err error
			if m.SteerDone.Error != "" {
				err = errors.New(m.SteerDone.Error)
			}
			c.steered(m.SteerDone.Id, err)
		case *shuntv1.AttachResponse_Release:
			c.o.Release(m.Release)
		case *shuntv1.AttachResponse_NodeLost:
			c.o.Lost(m.NodeLost)
		case *shuntv1.AttachResponse_Snapshot:
			select {
			case queries <- m.Snapshot.Query:
			default: // the controller's query times out
			}
		}
	}
}

// write says Hello, waits for the configuration, without which the agent does
// not know which sockets are sessions, lists them, and sends what is queued. When ctx
// ends it sends what is left, and waits until the controller has it, or the stream is
// over.
func (c *Client) write(ctx context.Context, stream grpc.BidiStreamingClient[shuntv1.AttachRequest, shuntv1.AttachResponse],
	configured <-chan struct{}, queue <-chan *shuntv1.AttachRequest, queries <-chan uint64, over <-chan struct{}) error {
	sync := func(query uint64) error {
		s, err := c.o.Sync(ctx, query)
		if err != nil {
			return err
		}
		s.Query = query
		return stream.Send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Sync{Sync: s}})
	}
	report := func() error {
		return stream.Send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Report{Report: c.o.Report()}})
	}
	if err := stream.Send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Hello{Hello: c.o.Hello()}}); err != nil {
		return err
	}
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-over:
		return nil
	case <-configured:
	}
	if err := sync(0); err != nil {
		return err
	}
	if err := c.sendKept(stream); err != nil {
		return err
	}
	tick := time.NewTicker(reportEvery)
	defer tick.Stop()
	// News that nobody waits for is sent a few at a time: else the controller
	// would wake up for each, just when the servers want the processor.
	var news []*shuntv1.AttachRequest
	late := time.NewTimer(newsDelay)
	late.Stop()
	defer late.Stop()
	defer func() {
		for _, m := range news {
			if m.GetHandoff() != nil {
				c.keep(m)
			}
		}
	}()
	tell := func() error {
		for len(news) > 0 {
			if err := stream.Send(news[0]); err != nil {
				return err
			}
			news = news[1:]
		}
		return nil
	}
	for {
		var err error
		select {
		case <-ctx.Done():
			rest := len(queue)+len(news) > 0
			for len(queue) > 0 {
				news = append(news, <-queue)
			}
			if err = tell(); rest && err == nil {
				stream.CloseSend() // it returns no error
				select {
				case <-over:
				case <-time.After(restWithin):
				}
			}
			return err
		case <-over:
			return nil
		case m := <-queue:
			if !isNews(m) {
				err = stream.Send(m)
				break
			}
			if news = append(news, m); len(news) == 1 {
				late.Reset(newsDelay)
			}
		case <-late.C:
			err = tell()
		case <-c.resync:
			err = sync(0)
		case q := <-queries:
			// Who asks is told of everything that was before.
			if c.o.Await != nil {
				c.o.Await()
			}
			for n := len(queue); n > 0; n-- {
				if m := <-queue; isNews(m) {
					news = append(news, m)
				} else {
					err = errors.Join(err, stream.Send(m))
				}
			}
			err = errors.Join(err, tell(), report(), sync(q))
		case <-tick.C:
			err = errors.Join(report(), c.sendKept(stream))
		case <-c.nudge:
			err = report()
		}
		if err != nil {
			return err
		}
	}
}

// isNews tells what can wait for newsDelay: accounts of hand-offs and ends of
// sessions, whose steering lingers anyhow. A session's Steer is never behind its
// end: the hand-offs' names tell an end from that of a later session.
func isNews(m *shuntv1.AttachRequest) bool { return m.GetHandoff() != nil || m.GetEnded() != nil }

// sendKept sends the records that could not be sent before. One whose sending
// failed may have arrived, and is not sent again.
func (c *Client) sendKept(stream grpc.BidiStreamingClient[shuntv1.AttachRequest, shuntv1.AttachResponse]) error {
	for {
		c.mu.Lock()
		if len(c.kept) == 0 {
			c.mu.Unlock()
			return nil
		}
		m := c.kept[0]
		c.kept = c.kept[1:]
		c.mu.Unlock()
		if err := stream.Send(m); err != nil {
			return err
		}
	}
}

// keepUnsent keeps the records in the queue of a stream that ended. All else in
// it is made up for by the next Sync.
func (c *Client) keepUnsent(queue <-chan *shuntv1.AttachRequest) {
	for {
		select {
		case m := <-queue:
			if m.GetHandoff() != nil {
				c.keep(m)
			}
		default:
			return
		}
	}
}

// keep keeps a record until it can be sent; the oldest give way.
func (c *Client) keep(m *shuntv1.AttachRequest) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if len(c.kept) >= keptRecords {
		c.kept = c.kept[1:]
	}
	c.kept = append(c.kept, m)
}

func (c *Client) disconnected() {
	c.connected.Store(false)
	c.mu.Lock()
	c.queue = nil
	waiting := c.steer
	c.steer = make(map[string]func(error))
	c.mu.Unlock()
	for _, done := range waiting {
		done(ErrDisconnected)
	}
}

func (c *Client) steered(id string, err error) {
	c.mu.Lock()
	done := c.steer[id]
	delete(c.steer, id)
	c.mu.Unlock()
	if done != nil {
		done(err)
	}
}

// send queues m, or reports that it cannot be sent now.
func (c *Client) send(m *shuntv1.AttachRequest) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.queue == nil {
		return ErrDisconnected
	}
	select {
	case c.queue <- m:
		return nil
	default:
		return fmt.Errorf("control: %d messages wait for the controller already", queueLength)
	}
}

// Steer asks for the session's packets to go to another node. done is called
// once, when the switch has confirmed or cannot. Until then, and without it,
// the diversion carries the packets.
func (c *Client) Steer(m *shuntv1.Steer, done func(error)) {
	c.mu.Lock()
	c.steer[m.Id] = done
	c.mu.Unlock()
	if err := c.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Steer{Steer: m}}); err != nil {
		c.steered(m.Id, err)
	}
}

// Unsteer takes a Steer back. If it cannot be sent the guards carry the
// packets, and the next Sync settles it.
func (c *Client) Unsteer(m *shuntv1.Unsteer) {
	c.orResync(c.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Unsteer{Unsteer: m}}))
}

// Ended reports the end of a session that this node held.
func (c *Client) Ended(m *shuntv1.Ended) {
	c.orResync(c.send(&shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Ended{Ended: m}}))
}

// Handoff reports a finished hand-off. While the controller is away, or slow, the
// latest ones are kept.
func (c *Client) Handoff(h *shuntv1.Handoff) {
	m := &shuntv1.AttachRequest{Message: &shuntv1.AttachRequest_Handoff{Handoff: h}}
	if c.send(m) != nil {
		c.keep(m)
	}
}

// Resync has the whole list of sessions sent again.
func (c *Client) Resync() {
	select {
	case c.resync <- struct{}{}:
	default:
	}
}

// ReportNow has the counters and the applications' readiness sent at once.
func (c *Client) ReportNow() {
	select {
	case c.nudge <- struct{}{}:
	default:
	}
}

// orResync makes up for a message that could not be queued. While disconnected
// nothing need be done: the next stream begins with a Sync.
func (c *Client) orResync(err error) {
	if err != nil && !errors.Is(err, ErrDisconnected) {
		c.Resync()
	}
}
