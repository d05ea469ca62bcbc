package preload

import (
	"bufio"
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

const nginxConfig = `
pid %[1]s/nginx.pid;
error_log %[1]s/error.log;
worker_processes 2;
env LD_PRELOAD;
env SHUNT_PRELOAD;
events { }
http {
	access_log off;
	client_body_temp_path %[1]s/t; proxy_temp_path %[1]s/t; fastcgi_temp_path %[1]s/t; uwsgi_temp_path %[1]s/t; scgi_temp_path %[1]s/t;
	server { listen %[2]v; return 200 "$remote_addr $remote_port"; }
}
`

// While an operator replaces a running nginx by a new one, the two share the
// listener, but not the queue.
func TestNginxIsUpgradedWhileSessionsCome(t *testing.T) {
	nginx := testnet.NeedProgram(t, "nginx")[0]
	testnet.NeedRoot(t)
	dir := t.TempDir()
	s := &server{
		t:       t,
		address: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), uint16(8000+ports.Add(1))),
		socket:  filepath.Join(dir, "web.sock"),
	}
	config, pidFile := filepath.Join(dir, "nginx.conf"), filepath.Join(dir, "nginx.pid")
	if err := os.WriteFile(config, fmt.Appendf(nil, nginxConfig, dir, s.address), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(nginx, "-c", config, "-e", filepath.Join(dir, "error.log"))
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+library, fmt.Sprintf("SHUNT_PRELOAD=%d=%s", s.address.Port(), s.socket))
	if out, err := cmd.CombinedOutput(); err != nil { // it goes to the background
		t.Fatalf("nginx: %v: %s", err, out)
	}
	master := func(file string) int {
		b, err := os.ReadFile(file)
		if err != nil {
			return 0
		}
		pid, _ := strconv.Atoi(strings.TrimSpace(string(b)))
		return pid
	}
	signal := func(pid int, sig syscall.Signal) {
		t.Helper()
		if pid <= 1 {
			t.Fatal("nginx's process is not known")
		}
		if err := syscall.Kill(pid, sig); err != nil {
			t.Fatal(err)
		}
	}
	t.Cleanup(func() {
		pid := master(pidFile)
		signal(pid, syscall.SIGTERM)
		until(t, "nginx has ended", func() bool { return syscall.Kill(pid, 0) != nil })
	})
	s.agent = s.attachment()
	s.untilReady(true)

	served := 0
	serve := func() {
		t.Helper()
		c, fd, m := session(t, "127.0.0.1")
		defer c.Close()
		if err := s.agent.Attach(context.Background(), fd, m); err != nil {
			t.Fatalf("session %d: %v", served, err)
		}
		fmt.Fprint(c, "GET / HTTP/1.0\r\n\r\n")
		resp, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatalf("session %d: %v", served, err)
		}
		var address string
		var port uint16
		if n, err := fmt.Fscan(resp.Body, &address, &port); n != 2 || address != m.Client.Addr().String() || port != m.Client.Port() {
			t.Fatalf("session %d: nginx takes the client for %s port %d (%v), not %v", served, address, port, err, m.Client)
		}
		served++
	}
	serveUntil := func(what string, done func() bool) {
		t.Helper()
		until(t, what, func() bool { serve(); return done() })
	}
	old := master(pidFile)
	serve()
	signal(old, syscall.SIGUSR2)
	serveUntil("there is a new nginx", func() bool { pid := master(pidFile); return pid != 0 && pid != old })
	for range 200 {
		serve()
	}
	signal(old, syscall.SIGQUIT)
	serveUntil("the old nginx has ended", func() bool { return syscall.Kill(old, 0) != nil })
	for range 50 {
		serve()
	}
	t.Logf("%d sessions", served)
}
