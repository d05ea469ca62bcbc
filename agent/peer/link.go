package peer

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/keepalive"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	pingEvery = time.Second
	overdue   = 2 * time.Second        // since the last answer to a ping: others are better
	dumb      = 500 * time.Millisecond // the same of one that owes the answer to a hand-off
	pongWait  = 3 * time.Second        // a silent stream is given up
)

// ErrNotReady says that the link has no usable stream: nothing was sent.
var ErrNotReady = errors.New("peer: no connection to the node's agent")

// An Answer to an import: the target's result, or nil when the stream broke
// before it came.
type Answer struct {
	Result *shuntv1.ImportResult
	Held   time.Duration // for so long the target kept it back
}

// A Link is the stream to one target.
type Link struct {
	node, endpoint string
	log            *slog.Logger
	conn           *grpc.ClientConn
	client         shuntv1.TransferServiceClient
	epoch          time.Time // zero of our clock
	offering       func(*shuntv1.Import)

	mu      sync.Mutex // guards what follows, and sending on the stream
	stream  grpc.BidiStreamingClient[shuntv1.TransferRequest, shuntv1.TransferResponse]
	clock   offset
	rtt     time.Duration // of the last ping
	heard   time.Duration // when its answer came, by our clock
	silent  time.Duration // since when nothing came, or nothing was pending; by our clock
	pending map[string]chan Answer
}

func newLink(node, endpoint string, creds credentials.TransportCredentials, epoch time.Time, log *slog.Logger) (*Link, error) {
	conn, err := grpc.NewClient("passthrough:///"+endpoint,
		grpc.WithTransportCredentials(creds),
		grpc.WithConnectParams(grpc.ConnectParams{
			Backoff:           backoff.Config{BaseDelay: 50 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: 250 * time.Millisecond},
			MinConnectTimeout: 2 * time.Second,
		}),
		grpc.WithKeepaliveParams(keepalive.ClientParameters{Time: 10 * time.Second, Timeout: 5 * time.Second}),
		grpc.WithDefaultCallOptions(grpc.MaxCallSendMsgSize(MaxMessage), grpc.MaxCallRecvMsgSize(1<<20)),
		grpc.WithStaticStreamWindowSize(1<<20), grpc.WithStaticConnWindowSize(4<<20),
	)
	if err != nil {
		return nil, fmt.Errorf("peer: agent of %s at %s: %w", node, endpoint, err)
	}
	return &Link{
		node: node, endpoint: endpoint, conn: conn, client: shuntv1.NewTransferServiceClient(conn), epoch: epoch,
		log: log.With("peer", node), pending: make(map[string]chan Answer),
	}, nil
}

// MaxMessage is the largest import that is sent or accepted, octets.
const MaxMessage = 64 << 20

func (l *Link) now() time.Duration { return time.Since(l.epoch) }

// run keeps a stream open until ctx ends.
func (l *Link) run(ctx context.Context) {
	wait := time.NewTimer(0)
	defer wait.Stop()
	for {
		select {
		case <-ctx.Done():
			return
		case <-wait.C:
		}
		if err := l.session(ctx); err != nil && ctx.Err() == nil {
			l.log.Info("the link to the node's agent ended", "endpoint", l.endpoint, "err", err)
		}
		wait.Reset(100 * time.Millisecond)
	}
}

// session is the life of one stream.
func (l *Link) session(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	stream, err := l.client.Transfer(ctx, grpc.WaitForReady(true))
	if err != nil {
		return err
	}
	pongs := make(chan struct{}, 1)
	var pinger sync.WaitGroup
	pinger.Go(func() {
		defer cancel()
		l.ping(ctx, stream, pongs)
	})
	defer pinger.Wait()
	defer l.lost()
	defer cancel()
	for {
		m, err := stream.Recv()
		if err != nil {
			return err
		}
		held := m.HeldUs
		switch m := m.Message.(type) {
		case *shuntv1.TransferResponse_Result:
			l.deliver(Answer{m.Result, time.Duration(held) * time.Microsecond})
		case *shuntv1.TransferResponse_Pong:
			l.mu.Lock()
			if l.stream == nil {
				l.log.Debug("the link to the node's agent is up")
			}
			l.heard = l.now()
			l.silent = l.heard
			l.clock.add(time.Duration(m.Pong.ClockNano), l.heard)
			l.rtt = l.heard - time.Duration(m.Pong.SentNano)
			l.stream = stream
			l.mu.Unlock()
			select {
			case pongs <- struct{}{}:
			default:
			}
		}
	}
}

// ping sends a ping every second and returns when one stays unanswered.
func (l *Link) ping(ctx context.Context, stream grpc.BidiStreamingClient[shuntv1.TransferRequest, shuntv1.TransferResponse], pongs <-chan struct{}) {
	tick := time.NewTicker(pingEvery)
	defer tick.Stop()
	silent := time.NewTimer(pongWait)
	defer silent.Stop()
	for {
		l.mu.Lock()
		err := stream.Send(&shuntv1.TransferRequest{Message: &shuntv1.TransferRequest_Ping{Ping: &shuntv1.Ping{SentNano: int64(l.now())}}})
		l.mu.Unlock()
		if err != nil {
			return
		}
		for again := true; again; {
			select {
			case <-ctx.Done():
				return
			case <-silent.C:
				l.log.Warn("the node's agent answers no pings", "for", pongWait)
				return
			case <-pongs:
				silent.Reset(pongWait)
			case <-tick.C:
				again = false
			}
		}
	}
}

// lost ends every wait for an answer: the stream that it would come by is gone.
func (l *Link) lost() {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.stream = nil
	l.clock = offset{}
	for id, c := range l.pending {
		delete(l.pending, id)
		c <- Answer{}
	}
}

func (l *Link) deliver(a Answer) {
	l.mu.Lock()
	c := l.pending[a.Result.Id]
	delete(l.pending, a.Result.Id)
	l.silent = l.now()
	l.mu.Unlock()
	if c != nil {
		c <- a
	}
}

// Ready tells whether hand-offs can be sent.
func (l *Link) Ready() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.stream != nil && l.clock.known()
}

// Fresh tells whether the node has answered the latest ping, or may still, and is
// not silent about hand-offs, which take it a millisecond. One that has not may be
// dead, or only busy: a link is given up later than this.
func (l *Link) Fresh() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	now := l.now()
	return l.stream != nil && now-l.heard < overdue && (len(l.pending) == 0 || now-l.silent < dumb)
}

// Import sends a hand-off that the target must activate within timeout, or
// never. It fills in the deadline. The answer comes by the channel, once. With
// ErrNotReady nothing was sent; after any other error the target may have it.
func (l *Link) Import(m *shuntv1.Import, timeout time.Duration) (<-chan Answer, error) {
	if l.offering != nil {
		l.offering(m)
	}
	c := make(chan Answer, 1)
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.stream == nil || !l.clock.known() {
		return nil, ErrNotReady
	}
	now := l.now()
	m.DeadlineNano = int64(l.clock.deadline(now + timeout))
	if len(l.pending) == 0 {
		l.silent = now
	}
	l.pending[m.Id] = c
	if err := l.stream.Send(&shuntv1.TransferRequest{Message: &shuntv1.TransferRequest_Import{Import: m}}); err != nil {
		delete(l.pending, m.Id)
		return nil, fmt.Errorf("peer: send a hand-off to %s: %w", l.node, err)
	}
	return c, nil
}

// Forget drops the wait for an answer that nobody reads any more.
func (l *Link) Forget(id string) {
	l.mu.Lock()
	delete(l.pending, id)
	l.mu.Unlock()
}

// Resolve asks what became of a hand-off. After ABSENT the target refuses it
// for good.
func (l *Link) Resolve(ctx context.Context, id string, s *shuntv1.Session) (shuntv1.Resolution, error) {
	r, err := l.client.Resolve(ctx, &shuntv1.ResolveRequest{Id: id, Session: s})
	if err != nil {
		return 0, fmt.Errorf("peer: ask %s for hand-off %s: %w", l.node, id, err)
	}
	return r.Resolution, nil
}
