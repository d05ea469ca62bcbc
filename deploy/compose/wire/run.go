package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
)

// stopTime is what programs have to end by themselves; Docker's patience is 10 s.
const stopTime = 8 * time.Second

var errUnplugged = errors.New("the panel is gone, and the link with it")

// run runs the container's programs until the context ends, one of them does,
// or the panel's end of the cord is closed. It returns the first reason. Docker
// then restarts the container, which joins again with a fresh namespace.
func (n node) run(ctx context.Context, cord net.Conn, log *slog.Logger) error {
	g, ctx := errgroup.WithContext(ctx)
	for _, p := range n.Run {
		g.Go(func() error { return p.run(ctx, log) })
	}
	g.Go(func() error {
		stop := context.AfterFunc(ctx, func() { cord.SetReadDeadline(time.Unix(1, 0)) })
		defer stop()
		_, _ = cord.Read(make([]byte, 1)) // says nothing more
		if ctx.Err() != nil {
			return ctx.Err()
		}
		return errUnplugged
	})
	return g.Wait()
}

// run returns an error however the program ends.
func (p program) run(ctx context.Context, log *slog.Logger) error {
	name := filepath.Base(p.Command[0])
	cmd := exec.CommandContext(ctx, p.Command[0], p.Command[1:]...)
	cmd.Env = os.Environ()
	for name, value := range p.Environment {
		cmd.Env = append(cmd.Env, name+"="+value)
	}
	cmd.Stdout, cmd.Stderr = os.Stdout, os.Stderr
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = stopTime
	if p.User != "" {
		c, err := credential(p.User)
		if err != nil {
			return fmt.Errorf("run %s: %w", name, err)
		}
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c}
		o, err := newOutput(c)
		if err != nil {
			return fmt.Errorf("run %s: make a pipe for its output: %w", name, err)
		}
		defer o.close()
		cmd.Stdout, cmd.Stderr = o.w, o.w
	}
	log.Info("starting", "program", name, "user", p.User)
	err := cmd.Run()
	if ctx.Err() != nil {
		return ctx.Err()
	}
	if err == nil {
		err = errors.New("it ended by itself")
	}
	return fmt.Errorf("run %s: %w", name, err)
}

// credential looks a user up in /etc/passwd. A program that runs as one that
// is not root has no capabilities.
func credential(name string) (*syscall.Credential, error) {
	u, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, err := strconv.ParseUint(u.Uid, 10, 32)
	if err != nil {
		return nil, err
	}
	gid, err := strconv.ParseUint(u.Gid, 10, 32)
	if err != nil {
		return nil, err
	}
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, nil
}
