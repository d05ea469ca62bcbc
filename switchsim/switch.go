package switchsim

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/pipeline"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// A Switch is a simulated switch. Its tables exist from New on; packets flow and
// controllers connect while Run runs.
type Switch struct {
	cfg     Config
	decoder wire.Decoder
	pipe    *pipeline.Pipeline
	ports   *portTable
	delayed *delayLine // nil on a switch that installs at once

	mu         sync.Mutex // guards the fields below
	conns      map[*conn]struct{}
	generation uint64 // of roles
	haveGen    bool
	running    context.Context // nil outside Run
	group      *sync.WaitGroup // the goroutines of Run
	listening  []string
}

// New returns a switch with its ports open. Without Run, Close frees them.
func New(cfg Config) (*Switch, error) {
	cfg, err := cfg.withDefaults()
	if err != nil {
		return nil, err
	}
	s := &Switch{
		cfg:     cfg,
		decoder: wire.Decoder{NoNicira: cfg.Misbehaviour.NoNicira, Tables: cfg.Tables},
		pipe: pipeline.New(pipeline.Config{
			Tables: cfg.Tables, TableCapacity: cfg.TableCapacity, GroupCapacity: cfg.GroupCapacity,
			StaleCache: cfg.Misbehaviour.StaleCache,
		}),
		conns: map[*conn]struct{}{},
	}
	s.ports = newPortTable(s)
	if d := cfg.Misbehaviour.InstallDelay; d > 0 {
		s.delayed = newDelayLine(d)
	}
	for _, name := range cfg.Ports {
		if _, err := s.AddPort(name); err != nil {
			s.Close()
			return nil, err
		}
	}
	return s, nil
}

// Close closes the ports of a switch that does not run. Run does so at its end.
func (s *Switch) Close() { s.ports.closeAll() }

// Run forwards packets and serves controllers until ctx ends, or until it cannot
// listen where it should. All that it started has ended when it returns. It can
// be called once.
func (s *Switch) Run(ctx context.Context) error {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	var wg sync.WaitGroup
	listeners, err := s.listen()
	if err != nil {
		s.Close()
		return err
	}
	s.mu.Lock()
	s.running, s.group = ctx, &wg
	for _, l := range listeners {
		s.listening = append(s.listening, l.Addr().String())
	}
	s.mu.Unlock()

	errs := make(chan error, 1)
	start := func(f func(context.Context) error) {
		wg.Go(func() {
			if err := f(ctx); err != nil && ctx.Err() == nil {
				select {
				case errs <- err:
				default:
				}
			}
		})
	}
	s.ports.start()
	start(s.watchLinks)
	start(s.expire)
	if s.delayed != nil {
		start(s.delayed.run)
	}
	for _, l := range listeners {
		start(func(ctx context.Context) error { return s.accept(ctx, l) })
	}
	for _, c := range s.cfg.Controllers {
		start(func(ctx context.Context) error { s.keepDialling(ctx, c); return nil })
	}

	select {
	case <-ctx.Done():
		err = nil
	case err = <-errs:
	}
	s.mu.Lock()
	s.running = nil // nothing is started from here on
	s.mu.Unlock()
	cancel()
	for _, l := range listeners {
		l.Close()
	}
	s.ports.closeAll()
	wg.Wait()
	return err
}

// goRun starts f as a goroutine of Run, if the switch runs.
func (s *Switch) goRun(f func(context.Context)) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if ctx := s.running; ctx != nil && ctx.Err() == nil {
		s.group.Go(func() { f(ctx) })
	}
}

// expire removes what has timed out, once a second.
func (s *Switch) expire(ctx context.Context) error {
	tick := time.NewTicker(time.Second)
	defer tick.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case now := <-tick.C:
			s.announceRemoved(s.pipe.Expire(now), now)
			s.pipe.Tracker().Expire(now)
		}
	}
}

// Listening returns the addresses that the running switch listens on.
func (s *Switch) Listening() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.listening...)
}

// errDropped ends a connection that the switch closes by misbehaviour.
var errDropped = errors.New("dropped on purpose after the configured number of messages")
