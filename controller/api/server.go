// Package api serves the controller's gRPC API: ControlService to agents,
// OperatorService to operators, and the standard health and reflection
// services. It checks the form of every message; what messages mean is behind
// the interfaces Agents and Operations.
//
// A malformed message ends its own stream with InvalidArgument and an error in
// the log, and touches nothing else.
package api

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/shunt-sdn/shunt/controller/liveness"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// maxMessage bounds one message, octets: a Sync of about 700,000 sessions.
const maxMessage = 64 << 20

// Server serves both services on the network and the operator's on a unix
// socket.
type Server struct {
	control           *control
	network, operator *grpc.Server
	health            *health.Server
	silence           time.Duration
}

// New returns a server that has nothing to listen on yet. conf is nil for a
// network without TLS. Who says nothing for silence, at least 2 s, is taken for
// dead or hung; a closed connection is noticed at once.
func New(conf *tls.Config, silence time.Duration, agents Agents, ops Operations, log *slog.Logger) *Server {
	creds := insecure.NewCredentials()
	if conf != nil {
		creds = credentials.NewTLS(conf)
	}
	options := []grpc.ServerOption{
		// Half of it to ask, half to wait for the answer.
		grpc.KeepaliveParams(keepalive.ServerParameters{Time: silence / 2, Timeout: silence / 2}),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Second, PermitWithoutStream: true}),
		grpc.ConnectionTimeout(10 * time.Second),
		grpc.MaxRecvMsgSize(maxMessage),
		grpc.WaitForHandlers(true),
	}
	s := &Server{
		control: &control{agents: agents, log: log},
		// Fixed windows: no probes of the bandwidth beside every message.
		network: grpc.NewServer(append(options, grpc.Creds(creds),
			grpc.StaticStreamWindowSize(1<<20), grpc.StaticConnWindowSize(4<<20))...),
		operator: grpc.NewServer(append(options, grpc.Creds(insecure.NewCredentials()))...),
		health:   health.NewServer(),
		silence:  silence,
	}
	shuntv1.RegisterControlServiceServer(s.network, s.control)
	for _, g := range []*grpc.Server{s.network, s.operator} {
		shuntv1.RegisterOperatorServiceServer(g, &operator{ops: ops})
		healthv1.RegisterHealthServer(g, s.health)
		reflection.Register(g)
	}
	return s
}

// Serve accepts on both listeners, of which either may be nil, and closes them.
// It returns when ctx ends and every stream is closed, with nil, or when a
// listener fails.
func (s *Server) Serve(ctx context.Context, network, operator net.Listener) error {
	if network != nil {
		network = liveness.Listen(network, s.silence)
	}
	failed := make(chan error, 2)
	running := 0
	for _, x := range []struct {
		g *grpc.Server
		l net.Listener
	}{{s.network, network}, {s.operator, operator}} {
		if x.l == nil {
			continue
		}
		running++
		go func() {
			err := x.g.Serve(x.l)
			if err != nil {
				err = fmt.Errorf("serve gRPC on %v: %w", x.l.Addr(), err)
			}
			failed <- err
		}()
	}
	var errs []error
	select {
	case <-ctx.Done():
	case err := <-failed:
		running--
		errs = append(errs, err)
	}
	s.health.Shutdown()
	s.operator.Stop()
	s.network.Stop()
	s.control.wg.Wait()
	for range running {
		errs = append(errs, <-failed)
	}
	return errors.Join(errs...)
}
