// Package sdnotify tells the service manager that started a daemon how it is
// doing, by the datagrams of sd_notify(3). Without a service manager, that is
// without NOTIFY_SOCKET in the environment, every call does nothing.
package sdnotify

import (
	"context"
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// Ready says that the daemon has started: units that are ordered after it may
// start now.
func Ready() error { return Send("READY=1") }

// Stopping says that the daemon has begun to stop.
func Stopping() error { return Send("STOPPING=1") }

// Send sends assignments of sd_notify(3), separated by newlines. The error is
// the socket's; daemons go on without.
func Send(state string) error {
	path := os.Getenv("NOTIFY_SOCKET")
	if path == "" {
		return nil
	}
	// A leading '@' stands for the zero octet of the abstract name space, in
	// package net as in sd_notify.
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("tell the service manager %q: %w", state, err)
	}
	defer c.Close()
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("tell the service manager %q: %w", state, err)
	}
	return nil
}

// WatchdogInterval is how often the service manager wants to hear from this
// process, 0 if it does not: half of WATCHDOG_USEC. Source: sd_watchdog_enabled(3).
func WatchdogInterval() time.Duration {
	if pid := os.Getenv("WATCHDOG_PID"); pid != "" && pid != strconv.Itoa(os.Getpid()) {
		return 0
	}
	usec, err := strconv.ParseInt(os.Getenv("WATCHDOG_USEC"), 10, 64)
	if err != nil || usec <= 0 || usec > int64(24*time.Hour/time.Microsecond) {
		return 0
	}
	return time.Duration(usec) * time.Microsecond / 2
}

// Watch tells the service manager that the daemon is alive, as often as it
// wants to hear so and as long as alive returns, until ctx ends. alive should
// return when the daemon's main lock could be had: one that hangs is restarted.
func Watch(ctx context.Context, alive func()) {
	every := WatchdogInterval()
	if every == 0 {
		return
	}
	t := time.NewTicker(every)
	defer t.Stop()
	for {
		alive()
		if Send("WATCHDOG=1") != nil {
			return
		}
		select {
		case <-ctx.Done():
			return
		case <-t.C:
		}
	}
}
