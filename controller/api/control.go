package api

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/peer"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/controller/liveness"
	"github.com/shunt-sdn/shunt/controller/registry"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// helloTimeout is how long a stream may be open without a Hello.
const helloTimeout = 10 * time.Second

// Agents takes agents in.
type Agents interface {
	// Join seats an agent that said a well-formed Hello. Until Leave, messages
	// for it go to the link; a configuration goes at once. The error is one of
	// registry.Nodes.Join.
	Join(h registry.Hello, link *Link) (Agent, error)
}

// Agent handles one agent's messages, which are well-formed. Its methods are
// called in the order of the messages, one at a time; Leave is the last.
type Agent interface {
	Sync(query uint64, held []Held)
	// Steer gets a message whose session is e.
	Steer(m *shuntv1.Steer, e Ends)
	Unsteer(id string, e Ends)
	// Ended gets a message whose session is e.
	Ended(m *shuntv1.Ended, e Ends)
	Handoff(record *shuntv1.Handoff)
	Report(apps []registry.Application, report *shuntv1.Report)
	// Leave is told whether the node, not only its agent, is silent: nothing that
	// is sent to its host is acknowledged.
	Leave(silent bool)
}

// control is the ControlService.
type control struct {
	shuntv1.UnimplementedControlServiceServer
	agents Agents
	log    *slog.Logger
	wg     sync.WaitGroup // receivers and senders of streams
}

// Attach serves one agent's stream. The receiver and the sender end when it
// returns, as that ends the stream; control.wg waits for them.
func (c *control) Attach(stream grpc.BidiStreamingServer[shuntv1.AttachRequest, shuntv1.AttachResponse]) error {
	ctx, cancel := context.WithCancel(stream.Context())
	defer cancel()
	r := &receiver{agents: c.agents, log: c.log, link: NewLink(), ready: make(chan struct{}),
		mayBe: func(node string) error { return mayBe(ctx, node) }}
	if p, ok := peer.FromContext(ctx); ok {
		r.log, r.peer = r.log.With("peer", p.Addr.String()), p.Addr
	}
	received, sent := make(chan error, 1), make(chan error, 1)
	c.wg.Go(func() { received <- r.run(stream.Recv) })
	hello := time.NewTimer(helloTimeout)
	defer hello.Stop()
	select {
	case err := <-received:
		return err
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	case <-hello.C:
		return status.Errorf(codes.DeadlineExceeded, "no Hello within %v", helloTimeout)
	case <-r.ready:
	}
	c.wg.Go(func() { sent <- r.link.deliver(ctx, stream.Send) })
	select {
	case err := <-received:
		return err
	case err := <-sent:
		return err
	case <-r.link.Done():
		return r.link.cause()
	case <-ctx.Done():
		return status.FromContextError(ctx.Err()).Err()
	}
}

// receiver turns one stream's messages into calls of an Agent.
type receiver struct {
	agents Agents
	log    *slog.Logger
	link   *Link
	ready  chan struct{}           // closed once the agent is seated
	mayBe  func(node string) error // the peer's right to the name
	peer   net.Addr                // nil: not known

	agent Agent // nil before Hello
}

// run returns the status that ends the stream.
func (r *receiver) run(recv func() (*shuntv1.AttachRequest, error)) error {
	defer func() {
		if r.agent != nil {
			r.agent.Leave(liveness.Silent(r.peer))
		}
	}()
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		if err := r.handle(m); err != nil {
			r.log.Error("agent's stream refused", "err", err)
			if _, ok := status.FromError(err); !ok {
				err = status.Error(codes.InvalidArgument, err.Error())
			}
			return err
		}
	}
}

func (r *receiver) handle(m *shuntv1.AttachRequest) error {
	if h := m.GetHello(); h != nil || r.agent == nil {
		return r.hello(h)
	}
	switch m := m.Message.(type) {
	case *shuntv1.AttachRequest_Sync:
		held, err := parseSync(m.Sync)
		if err != nil {
			return fmt.Errorf("message Sync: %w", err)
		}
		r.agent.Sync(m.Sync.GetQuery(), held)
	case *shuntv1.AttachRequest_Steer:
		e, err := parseEnds(m.Steer.GetId(), m.Steer.GetSession())
		if err != nil {
			return fmt.Errorf("message Steer: %w", err)
		}
		if n := len(m.Steer.Origin); n > registry.MaxID {
			return fmt.Errorf("message Steer: origin has %d octets, at most %d are taken", n, registry.MaxID)
		}
		r.agent.Steer(m.Steer, e)
	case *shuntv1.AttachRequest_Unsteer:
		e, err := parseEnds(m.Unsteer.GetId(), m.Unsteer.GetSession())
		if err != nil {
			return fmt.Errorf("message Unsteer: %w", err)
		}
		r.agent.Unsteer(m.Unsteer.Id, e)
	case *shuntv1.AttachRequest_Ended:
		e, err := endsOf(m.Ended.GetSession())
		if n := max(len(m.Ended.GetId()), len(m.Ended.GetOrigin())); err == nil && n > registry.MaxID {
			err = fmt.Errorf("hand-off's id has %d octets, at most %d are taken", n, registry.MaxID)
		}
		if err != nil {
			return fmt.Errorf("message Ended: %w", err)
		}
		r.agent.Ended(m.Ended, e)
	case *shuntv1.AttachRequest_Handoff:
		if err := registry.CheckHandoff(m.Handoff); err != nil {
			return err
		}
		r.agent.Handoff(m.Handoff)
	case *shuntv1.AttachRequest_Report:
		apps, err := parseReport(m.Report)
		if err != nil {
			return fmt.Errorf("message Report: %w", err)
		}
		r.agent.Report(apps, m.Report)
	default:
		return errors.New("a message that says nothing, or of a newer version of the protocol")
	}
	return nil
}

func (r *receiver) hello(m *shuntv1.Hello) error {
	switch {
	case m == nil:
		return errors.New("the first message is not Hello")
	case r.agent != nil:
		return errors.New("a second Hello in one stream")
	}
	h, err := registry.ParseHello(m)
	if err != nil {
		return fmt.Errorf("message Hello: %w", err)
	}
	r.log = r.log.With("node", h.Name)
	if err := r.mayBe(h.Name); err != nil {
		return status.Error(codes.PermissionDenied, err.Error())
	}
	agent, err := r.agents.Join(h, r.link)
	switch {
	case errors.Is(err, registry.ErrNotAllowed):
		return status.Error(codes.PermissionDenied, err.Error())
	case errors.Is(err, registry.ErrClash):
		return status.Error(codes.AlreadyExists, err.Error())
	case errors.Is(err, registry.ErrTooMany):
		return status.Error(codes.ResourceExhausted, err.Error())
	case err != nil:
		return status.Error(codes.Internal, err.Error())
	}
	r.agent = agent
	close(r.ready)
	return nil
}

// mayBe tells whether the stream's peer may call itself by a node's name: over
// TLS its certificate must have that DNS name. Without TLS anyone may.
func mayBe(ctx context.Context, node string) error {
	p, ok := peer.FromContext(ctx)
	if !ok {
		return nil
	}
	info, ok := p.AuthInfo.(credentials.TLSInfo)
	if !ok {
		return nil
	}
	if len(info.State.PeerCertificates) == 0 {
		return fmt.Errorf("node %s shows no certificate", node)
	}
	if err := info.State.PeerCertificates[0].VerifyHostname(node); err != nil {
		return fmt.Errorf("the certificate is not for node %s: issue one with that DNS name: %w", node, err)
	}
	return nil
}
