package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"

	"golang.org/x/sync/errgroup"

	"github.com/shunt-sdn/shunt/handoff"
)

// shutdownTime is how long requests have to end after the context has.
const shutdownTime = time.Second

// Serve answers on the listeners until the context ends, and closes them.
func Serve(ctx context.Context, node string, log *slog.Logger, listeners ...net.Listener) error {
	server := &http.Server{
		Handler:           Handler(node),
		ReadHeaderTimeout: 30 * time.Second,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelWarn),
		ConnState:         handoff.ConnState,
	}
	g, ctx := errgroup.WithContext(ctx)
	for _, l := range listeners {
		g.Go(func() error {
			err := server.Serve(l)
			if !errors.Is(err, http.ErrServerClosed) && (ctx.Err() == nil || !errors.Is(err, net.ErrClosed)) {
				return fmt.Errorf("serve on %s: %w", l.Addr(), err)
			}
			return nil
		})
	}
	g.Go(func() error {
		<-ctx.Done()
		patient, cancel := context.WithTimeout(context.WithoutCancel(ctx), shutdownTime)
		defer cancel()
		// Requests that were handed over are answered before the server ends.
		for _, l := range listeners {
			if h, ok := l.(*handoff.Listener); ok {
				if err := h.Drain(patient); err != nil {
					log.Warn("handed-over connections are left without an answer", "err", err)
				}
			}
		}
		if server.Shutdown(patient) != nil {
			return server.Close()
		}
		return nil
	})
	return g.Wait()
}
