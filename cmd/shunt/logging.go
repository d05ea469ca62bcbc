package main

import (
	"context"
	"fmt"
	"log/slog"
	"os"
	"os/signal"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/logconf"
)

// daemonLog makes a daemon's logger, on standard error, as its configuration
// wants it; a level by --log-level, if not empty, stands in for log.level. On
// SIGHUP, until ctx ends, again reads the configuration anew, and its levels
// count from then on.
func daemonLog(ctx context.Context, level string, c logconf.Config, again func() (logconf.Config, error)) (*slog.Logger, error) {
	override := func(c logconf.Config) (logconf.Config, error) {
		if level == "" {
			return c, nil
		}
		l, err := logconf.ParseLevel(level)
		if err != nil {
			return c, fmt.Errorf("--log-level %q %w", level, err)
		}
		c.Level = l
		return c, nil
	}
	c, err := override(c)
	if err != nil {
		return nil, err
	}
	h := logconf.New(os.Stderr, c)
	log := slog.New(h)
	hangup := make(chan os.Signal, 1)
	signal.Notify(hangup, unix.SIGHUP)
	go func() { // ends with the program
		defer signal.Stop(hangup)
		for {
			select {
			case <-ctx.Done():
				return
			case <-hangup:
			}
			c, err := again()
			if err == nil {
				c, err = override(c)
			}
			if err != nil {
				log.Error("the levels of the log stay as they are: the configuration is wrong", "err", err)
				continue
			}
			h.Set(c)
			log.Info("the levels of the log were read anew; all else in the configuration takes a restart")
		}
	}()
	return log, nil
}
