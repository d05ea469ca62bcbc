// Package controller is the daemon at the centre of a cluster: it leases
// session addresses, tells agents what they have to know, has the switches
// steer sessions to the nodes that hold them, and answers operators.
//
// What must survive it is on its disk (package leases), in the agents' kernels
// and in the switches. When it starts again it waits for the agents that were
// there before, asks them for their sessions, and only then removes steering
// that nobody claims: live sessions do not notice.
package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"time"

	"github.com/shunt-sdn/shunt/controller/api"
	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/sdnotify"
	"github.com/shunt-sdn/shunt/internal/tlsconf"
)

// Run runs the controller until ctx ends, which is a clean stop and returns
// nil, or a part of it fails. Nothing is removed from switches or agents at the
// end: sessions live on.
func Run(ctx context.Context, cfg config.Config, version string, log *slog.Logger) error {
	return run(ctx, cfg, version, log, func(s *leases.Store) (switches, error) {
		return newSwitches(cfg, s, logconf.Of(log, "switches"))
	})
}

// run is Run with what makes the switches.
func run(ctx context.Context, cfg config.Config, version string, log *slog.Logger, make func(*leases.Store) (switches, error)) (err error) {
	store, err := leases.Open(cfg.State)
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	sw, err := make(store)
	if err != nil {
		return err
	}
	certs, err := loadCertificates(cfg, log)
	if err != nil {
		return err
	}
	l, err := listen(cfg, certs)
	if err != nil {
		return err
	}
	defer l.close()
	c, err := newCluster(cfg, log, store, sw)
	if err != nil {
		return err
	}
	if err := c.telemetry.open(ctx, cfg, version, log, c); err != nil {
		return err
	}
	defer func() { err = errors.Join(err, c.telemetry.close()) }()
	if !cfg.Insecure {
		c.telemetry.endpoint.Registry().MustRegister(metrics.Certificate(certs.notAfter))
	}
	log.Info("controller is up", "grpc", l.network.Addr(), "operator", cfg.Listen.Operator, "openflow", cfg.Listen.OpenFlow,
		"services", len(cfg.Services), "tls", !cfg.Insecure)
	if err := sdnotify.Ready(); err != nil {
		log.Warn("the service manager does not know that the controller is up", "err", err)
	}
	err = c.serve(ctx, l, certs)
	log.Info("controller stopped", "err", err)
	return err
}

// serve runs the cluster, its API and its switches until ctx ends or one fails,
// and stops them in that order: agents that are cut off by a clean stop are not
// remembered as gone, and what they say last still reaches the switches.
func (c *cluster) serve(ctx context.Context, l *listeners, certs certificates) error {
	server := api.New(certs.agents, c.cfg.NodeSilence, c, c, logconf.Of(c.log, "api"))
	server.AddPolicies(policies{c}, c.cfg.Operators)
	ctx, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	var stages []stage
	start := func(what string, f func(context.Context) error) {
		s := stage{done: make(chan struct{})}
		var sctx context.Context
		sctx, s.stop = context.WithCancel(context.WithoutCancel(ctx))
		go func() {
			defer close(s.done)
			if err := f(sctx); err != nil && sctx.Err() == nil {
				fail(fmt.Errorf("%s: %w", what, err))
			}
		}()
		stages = append(stages, s)
	}
	start("control switches", func(ctx context.Context) error { return c.switches.Run(ctx, l.openflow, certs.dialled) })
	start("serve agents and operators", func(ctx context.Context) error { return server.Serve(ctx, l.network, l.operator) })
	start("follow the cluster", func(ctx context.Context) error { c.run(ctx); return nil })
	start("metrics", c.telemetry.endpoint.Run)
	start("tell the service manager", func(ctx context.Context) error { sdnotify.Watch(ctx, c.alive); return nil })
	<-ctx.Done()
	for len(stages) > 0 {
		last := stages[len(stages)-1]
		stages = stages[:len(stages)-1]
		last.stop()
		<-last.done
	}
	c.tasks.Wait()
	if cause := context.Cause(ctx); !errors.Is(cause, context.Canceled) {
		return cause
	}
	return nil
}

// alive returns once the locks that everything needs could be had.
func (c *cluster) alive() {
	c.refreshing.Lock()
	defer c.refreshing.Unlock()
	c.mu.Lock()
	defer c.mu.Unlock()
}

// stage is a part of the controller that runs in a goroutine.
type stage struct {
	stop context.CancelFunc
	done chan struct{}
}

// certificates are what TLS connections of each kind are made with; nil: no TLS.
type certificates struct {
	agents, switches *tls.Config        // of those that connect to the controller
	dialled          func() *tls.Config // of switches that it connects to; it may return nil
	notAfter         func() time.Time   // the controller's own ends
}

// loadCertificates reads the certificate files. Those that are renewed count
// from the next connection on.
func loadCertificates(cfg config.Config, log *slog.Logger) (c certificates, err error) {
	if cfg.Insecure {
		c.dialled = func() *tls.Config { return nil }
		return c, nil
	}
	agents, err := tlsconf.Reload(cfg.TLS.Server, log)
	if err != nil {
		return c, err
	}
	c.agents, c.notAfter = agents.ForServer(), agents.NotAfter
	dialled, err := tlsconf.Reload(forSwitches(func() (*tls.Config, error) { return cfg.TLS.Client("") }), log)
	if err != nil {
		return c, err
	}
	c.dialled = dialled.Config
	if cfg.OpenFlowTLS {
		switches, err := tlsconf.Reload(forSwitches(cfg.TLS.Server), log)
		if err != nil {
			return c, err
		}
		c.switches = switches.ForServer()
	}
	return c, nil
}

// forSwitches allows what switches lag behind with: their TLS library may end at
// 1.2.
func forSwitches(load func() (*tls.Config, error)) func() (*tls.Config, error) {
	return func() (*tls.Config, error) {
		conf, err := load()
		if err == nil {
			conf.MinVersion = tls.VersionTLS12
		}
		return conf, err
	}
}

// listeners are where the controller accepts connections.
type listeners struct{ network, operator, openflow net.Listener }

func listen(cfg config.Config, certs certificates) (_ *listeners, err error) {
	l := &listeners{}
	defer func() {
		if err != nil {
			l.close()
		}
	}()
	if l.network, err = net.Listen("tcp", cfg.Listen.GRPC); err != nil {
		return nil, fmt.Errorf("listen for agents: %w; correct listen.grpc", err)
	}
	if l.operator, err = api.ListenUnix(cfg.Listen.Operator); err != nil {
		return nil, err
	}
	if cfg.Listen.OpenFlow == "" {
		return l, nil
	}
	if l.openflow, err = openflow.Listen(cfg.Listen.OpenFlow, certs.switches); err != nil {
		return nil, fmt.Errorf("%w; correct listen.openflow", err)
	}
	return l, nil
}

func (l *listeners) close() {
	for _, x := range []net.Listener{l.network, l.operator, l.openflow} {
		if x != nil {
			x.Close() // again, if its server ran: that error says nothing
		}
	}
}
