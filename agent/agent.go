package agent

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"net"
	"net/netip"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/health"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/keepalive"
	"google.golang.org/grpc/reflection"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/agent/config"
	"github.com/shunt-sdn/shunt/agent/control"
	"github.com/shunt-sdn/shunt/agent/dispatcher"
	"github.com/shunt-sdn/shunt/agent/guard"
	apphealth "github.com/shunt-sdn/shunt/agent/health"
	"github.com/shunt-sdn/shunt/agent/hostaddr"
	"github.com/shunt-sdn/shunt/agent/lost"
	"github.com/shunt-sdn/shunt/agent/peer"
	"github.com/shunt-sdn/shunt/agent/routing"
	"github.com/shunt-sdn/shunt/agent/server"
	"github.com/shunt-sdn/shunt/agent/sockdiag"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/sdnotify"
	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/internal/tracing"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// agent is one running daemon.
type agent struct {
	cfg      config.Config
	log      *slog.Logger
	instance uint64
	version  string
	mac      net.HardwareAddr
	addrs    []netip.Addr

	guard      *guard.Guard
	routes     *hostaddr.Routes
	attached   map[string]attach.Attachment
	server     *server.Server
	peers      *peer.Pool
	dispatcher *dispatcher.Dispatcher // without the role it dispatches no service, and only hands on
	control    *control.Client
	policy     *routing.Table
	health     *apphealth.Prober
	telemetry  *telemetry
	drain      drain
	answers    map[string]*answers // by service; made with attached
	lost       *lost.Herald
	watcher    *sockdiag.Watcher

	asked         *[]shared     // what the guard was told of; only apply has it
	open, leaving atomic.Bool   // the dispatcher's listeners are open; it is about to stop
	left          chan struct{} // closed when the cluster knows that it is
	leftOnce      sync.Once

	mu     sync.RWMutex // guards what follows
	known  bool         // a configuration was applied
	config view
}

// Run runs the agent in the calling process's network namespace until ctx ends.
// Sessions that applications hold live on after it.
func Run(ctx context.Context, cfg config.Config, version string, log *slog.Logger) (err error) {
	a := &agent{cfg: cfg, log: log.With("node", cfg.Node), instance: rand.Uint64(), version: version,
		drain: drain{leave: make(chan struct{}, leaveAtOnce)}, left: make(chan struct{})}
	if err := a.readInterface(); err != nil {
		return err
	}
	creds, err := credentialsOf(cfg, a.log)
	if err != nil {
		return err
	}
	if a.telemetry, err = openTelemetry(ctx, cfg, version, a.log, a.readiness()); err != nil {
		return fmt.Errorf("agent: %w", err)
	}
	defer func() { err = errors.Join(err, a.telemetry.close()) }()
	a.log = slog.New(tracing.WithTraces(a.log.Handler(), &a.telemetry.book))
	if a.guard, err = guard.Open(guard.Options{Interface: cfg.Interface, MaxDivert: cfg.MaxDiverted, Log: logconf.Of(a.log, "guard")}); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.guard.Close()) }()
	if a.routes, err = hostaddr.Open(logconf.Of(a.log, "hostaddr")); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.routes.Leave()) }()
	if a.watcher, err = sockdiag.OpenWatcher(); err != nil {
		return err
	}
	defer a.watcher.Close()
	a.peers = peer.NewPool(creds.client, logconf.Of(a.log, "peer"))
	a.peers.Offering = a.telemetry.offering
	a.control = control.New(control.Options{
		Target: cfg.Controller, Creds: creds.client, Log: logconf.Of(a.log, "control"),
		Hello: a.hello, Await: func() { a.dispatcher.AwaitRecords(recordsWithin) }, Sync: a.sync, Report: a.report, Config: a.apply, Release: a.release, Lost: a.nodeLost,
	})
	a.policy = routing.New(logconf.Of(a.log, "policy"))
	defer func() { err = errors.Join(err, a.policy.Close()) }()
	a.health = apphealth.New(apphealth.Options{Changed: a.control.ReportNow, Log: logconf.Of(a.log, "health")})
	defer a.health.Close()
	if err := a.makeAttachments(ctx); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, a.detach()) }()
	watched := watchedControl{a.control, a.telemetry}
	a.server = server.New(server.Options{
		Attachment: a.attachment, Undivert: a.guard.Undivert, Held: a.held,
		Await: func(client, local netip.AddrPort, limit time.Duration) {
			a.dispatcher.AwaitDeparture(client, local, limit)
		},
		Ended: a.control.Ended, Steer: watched.Steer, Counts: sockdiag.CountsOf, Node: cfg.Node, Log: logconf.Of(a.log, "server"),
	})
	a.dispatcher = dispatcher.New(dispatcher.Options{
		Node: cfg.Node, Instance: a.instance, Guard: a.guard, Controller: watched, Peers: a.peers,
		Local: a.attached, Policy: a.policy, Log: logconf.Of(a.log, "dispatcher"), Observe: a.telemetry.seen,
		Lost: func(client, local netip.AddrPort, owner uint64) { a.lost.Diverted(client, local, owner) },
	})
	// The client's answer to a probe finds no socket here, and so is answered with
	// a RST.
	a.lost = lost.New(lost.Options{Moving: a.dispatcher.Moving, Release: a.guard.Release, Probe: tcprepair.Probe, Log: logconf.Of(a.log, "dispatcher")})
	a.telemetry.endpoint.Registry().MustRegister(collector{a})
	if creds.notAfter != nil {
		a.telemetry.endpoint.Registry().MustRegister(metrics.Certificate(creds.notAfter))
	}
	if err := a.serve(ctx, creds.server); err != nil {
		return err
	}
	return a.leave()
}

// serve runs everything until ctx ends or a part fails.
func (a *agent) serve(ctx context.Context, creds credentials.TransportCredentials) error {
	l, err := net.Listen("tcp", a.cfg.Listen)
	if err != nil {
		return fmt.Errorf("agent: listen for other agents: %w", err)
	}
	s := grpc.NewServer(grpc.Creds(creds), grpc.MaxRecvMsgSize(peer.MaxMessage),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: 5 * time.Second, PermitWithoutStream: true}),
		grpc.StaticStreamWindowSize(1<<20), grpc.StaticConnWindowSize(4<<20), grpc.StreamInterceptor(a.telemetry.watchImports))
	shuntv1.RegisterTransferServiceServer(s, a.server)
	healthpb.RegisterHealthServer(s, health.NewServer())
	reflection.Register(s)

	// The control stream and the watch outlive the dispatcher and the imports:
	// what these do at their end is still reported.
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	late, stop := context.WithCancel(context.Background())
	var wg sync.WaitGroup
	defer wg.Wait()
	defer stop()
	errs := make(chan error, 6)
	run := func(what string, f func() error) {
		wg.Go(func() {
			if err := f(); err != nil {
				errs <- fmt.Errorf("agent: %s: %w", what, err)
				cancel()
			}
		})
	}
	run("serve other agents", func() error { return s.Serve(l) })
	run("the stream to the controller", func() error { return a.control.Run(late) })
	run("metrics", func() error { return a.telemetry.endpoint.Run(late) })
	run("access log", func() error { return a.telemetry.writeAccessLog(late) })
	run("tell clients of lost sessions", func() error { return a.lost.Run(late) })
	run("watch sockets", func() error { return a.watcher.Run(late, a.socketEvent) })
	a.log.Info("agent is up", "interface", a.cfg.Interface, "mac", a.mac, "listen", l.Addr(), "version", a.version)
	if err := sdnotify.Ready(); err != nil {
		a.log.Warn("the service manager does not know that the agent is up", "err", err)
	}

	<-ctx.Done()
	if len(errs) == 0 {
		a.makeWay()
	}
	a.dispatcher.Close()
	a.peers.Close()
	s.Stop()
	select {
	case err := <-errs:
		return err
	default:
		return nil
	}
}

// leave takes down what the agent put on the host, unless sessions live on it:
// they would lose their address.
func (a *agent) leave() error {
	sockets, err := a.sockets(context.Background())
	if err != nil {
		return err
	}
	if len(sockets) > 0 {
		a.log.Info("session addresses and guard stay: sessions live on", "sessions", len(sockets))
		return nil
	}
	a.log.Info("removing session addresses and guard")
	return errors.Join(a.routes.Close(), a.guard.Detach())
}

func (a *agent) readInterface() error {
	i, err := net.InterfaceByName(a.cfg.Interface)
	if err != nil {
		return fmt.Errorf("agent: data interface %q: %w", a.cfg.Interface, err)
	}
	if len(i.HardwareAddr) != 6 {
		return fmt.Errorf("agent: data interface %q has no Ethernet address", a.cfg.Interface)
	}
	a.mac = i.HardwareAddr
	addrs, err := i.Addrs()
	if err != nil {
		return fmt.Errorf("agent: addresses of %q: %w", a.cfg.Interface, err)
	}
	for _, n := range addrs {
		if p, err := netip.ParsePrefix(n.String()); err == nil && p.Addr().IsGlobalUnicast() {
			a.addrs = append(a.addrs, p.Addr().Unmap())
		}
	}
	if len(a.addrs) == 0 {
		return fmt.Errorf("agent: data interface %q has no address; give it one before the agent starts", a.cfg.Interface)
	}
	return nil
}

// creds are what connections are made with.
type creds struct {
	server, client credentials.TransportCredentials
	notAfter       func() time.Time // nil: without TLS
}

// credentialsOf reads the certificate files. Those that are renewed count from
// the next connection on.
func credentialsOf(cfg config.Config, log *slog.Logger) (creds, error) {
	if cfg.Insecure {
		return creds{server: insecure.NewCredentials(), client: insecure.NewCredentials()}, nil
	}
	s, err := tlsconf.Reload(cfg.TLS.Server, log)
	if err != nil {
		return creds{}, fmt.Errorf("agent: %w", err)
	}
	c, err := tlsconf.Reload(func() (*tls.Config, error) { return cfg.TLS.Client("") }, log)
	if err != nil {
		return creds{}, fmt.Errorf("agent: %w", err)
	}
	return creds{credentials.NewTLS(s.ForServer()), c.Credentials(), s.NotAfter}, nil
}

// readiness: without a configuration the agent serves nobody. That the
// controller is away is no lack of readiness: what is here works on.
func (a *agent) readiness() metrics.Check {
	return metrics.Check{Name: "configuration", Ready: func() error {
		if _, known := a.view(); !known {
			return errors.New("none came from the controller yet")
		}
		return nil
	}}
}

// detach closes the attachments; relayed sessions end.
func (a *agent) detach() error {
	a.drain.end()
	var errs []error
	for _, at := range a.attached {
		errs = append(errs, at.Close())
	}
	return errors.Join(errs...)
}
