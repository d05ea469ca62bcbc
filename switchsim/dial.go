package switchsim

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"os"
	"sync"
	"time"
)

// keepDialling keeps a connection to a controller until ctx ends.
func (s *Switch) keepDialling(ctx context.Context, target string) {
	const least = 50 * time.Millisecond
	backoff := least
	for ctx.Err() == nil {
		began := time.Now()
		nc, err := s.dial(ctx, target)
		if err == nil {
			err = s.serve(ctx, nc, false)
			if time.Since(began) > s.cfg.MaxBackoff {
				backoff = least
			}
		}
		if ctx.Err() != nil {
			return
		}
		s.cfg.Log.Info("no connection to the controller", "controller", target, "err", err, "retry_in", backoff)
		sleep(ctx, backoff)
		backoff = min(2*backoff, s.cfg.MaxBackoff)
	}
}

func (s *Switch) dial(ctx context.Context, target string) (net.Conn, error) {
	e, err := parseEndpoint(target)
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	if e.tls {
		return (&tls.Dialer{Config: s.cfg.TLS()}).DialContext(ctx, e.network, e.address)
	}
	return (&net.Dialer{}).DialContext(ctx, e.network, e.address)
}

// listen opens the addresses to listen on, all or none.
func (s *Switch) listen() ([]net.Listener, error) {
	var all []net.Listener
	for _, target := range s.cfg.Listen {
		e, err := parseListen(target)
		if err == nil && e.network == "unix" {
			err = removeStale(e.address)
		}
		var l net.Listener
		if err == nil {
			l, err = net.Listen(e.network, e.address)
		}
		if err != nil {
			for _, l := range all {
				l.Close()
			}
			return nil, fmt.Errorf("switchsim: listen on %s: %w", target, err)
		}
		if e.tls {
			l = tls.NewListener(l, s.cfg.ListenTLS)
		}
		all = append(all, l)
	}
	return all, nil
}

// removeStale removes the socket file of a process that is gone.
func removeStale(path string) error {
	if fi, err := os.Stat(path); err != nil || fi.Mode()&os.ModeSocket == 0 {
		return nil
	}
	if c, err := net.Dial("unix", path); err == nil {
		c.Close()
		return fmt.Errorf("another process listens there")
	}
	return os.Remove(path)
}

// accept serves those who connect until the listener is closed.
func (s *Switch) accept(ctx context.Context, l net.Listener) error {
	var wg sync.WaitGroup
	defer wg.Wait()
	for {
		nc, err := l.Accept()
		if errors.Is(err, net.ErrClosed) {
			return nil
		}
		if err != nil {
			s.cfg.Log.Warn("accept", "listener", l.Addr().String(), "err", err)
			if !sleep(ctx, 50*time.Millisecond) {
				return nil
			}
			continue
		}
		wg.Go(func() {
			if err := s.serve(ctx, nc, true); err != nil {
				s.cfg.Log.Debug("connection ended", "err", err)
			}
		})
	}
}
