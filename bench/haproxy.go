package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/lab"
)

const proxyPort = 8000

// startProxy runs HAProxy on the dispatcher's host, in front of the same
// servers.
func (b *bench) startProxy(ctx context.Context) (stop func(), err error) {
	if _, err := exec.LookPath("haproxy"); err != nil {
		return nil, fmt.Errorf("the peer to compare with is missing: apt-get install haproxy: %w", err)
	}
	dir, err := os.MkdirTemp("", "shunt-bench-")
	if err != nil {
		return nil, err
	}
	var c strings.Builder
	fmt.Fprintf(&c, "global\n  maxconn 4000\ndefaults\n  mode http\n  option splice-auto\n  timeout connect 5s\n  timeout client 60s\n  timeout server 60s\n"+
		"frontend f\n  bind :%d\n  default_backend b\nbackend b\n  balance roundrobin\n", proxyPort)
	for _, h := range b.lab.Info().Hosts {
		if h.Role == lab.RoleServer {
			fmt.Fprintf(&c, "  server %s %s:%d\n", h.Name, h.Addresses[0], b.lab.Service().Port)
		}
	}
	config := filepath.Join(dir, "haproxy.cfg")
	if err := os.WriteFile(config, []byte(c.String()), 0o644); err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, "haproxy", "-db", "-q", "-f", config)
	cmd.Stderr = os.Stderr
	if err := b.lab.StartCommand("dispatcher1", cmd); err != nil {
		return nil, fmt.Errorf("start haproxy: %w", err)
	}
	b.proxy = cmd.Process.Pid
	stop = func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait()
		os.RemoveAll(dir)
	}
	dial := b.lab.Dial("client1")
	for end := time.Now().Add(5 * time.Second); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		var c net.Conn
		if c, err = dial(ctx, "tcp", strings.TrimPrefix(b.proxied("")[0], "http://")); err == nil {
			c.Close()
			return stop, nil
		}
	}
	stop()
	return nil, fmt.Errorf("haproxy does not answer: %w", err)
}

func (b *bench) proxied(path string) []string {
	for _, h := range b.lab.Info().Hosts {
		if h.Role == lab.RoleDispatcher {
			return []string{fmt.Sprintf("http://%s:%d%s", h.Addresses[0], proxyPort, path)}
		}
	}
	return nil
}
