package preload

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
	"github.com/shunt-sdn/shunt/internal/testnet"
)

const patience = 20 * time.Second

var ports atomic.Uint32 // each server has a port for itself

// server is a preloaded server and its agent's attachment.
type server struct {
	t       testing.TB
	mode    []string // of testdata/server.c
	address netip.AddrPort
	socket  string
	env     []string
	cmd     *exec.Cmd
	agent   *attach.Preload
}

// newServer starts one: "epoll 127.0.0.1 accept4 nonblock" and the like.
func newServer(t testing.TB, spec string) *server {
	t.Helper()
	testnet.NeedRoot(t)
	fields := strings.Fields(spec)
	s := &server{
		t:       t,
		mode:    append(fields[:1:1], fields[2:]...),
		address: netip.AddrPortFrom(netip.MustParseAddr(fields[1]), uint16(8000+ports.Add(1))),
		socket:  filepath.Join(t.TempDir(), "run", "web.sock"),
	}
	s.start()
	s.agent = s.attachment()
	s.untilReady(true)
	return s
}

func (s *server) config() attach.PreloadConfig {
	c := attach.PreloadConfig{Socket: s.socket, Connect: s.address, Probe: 20 * time.Millisecond}
	if s.address.Addr().IsUnspecified() {
		c.Connect = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), s.address.Port())
	}
	if s.address.Addr() == netip.IPv6Unspecified() {
		c.Connect6 = netip.AddrPortFrom(netip.IPv6Loopback(), s.address.Port())
	}
	return c
}

func (s *server) attachment() *attach.Preload {
	s.t.Helper()
	p, err := attach.NewPreload(s.config())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { p.Close() })
	return p
}

func (s *server) start() { s.t.Helper(); s.cmd = s.run() }

// run starts a process of the server, in a process group of its own.
func (s *server) run() *exec.Cmd {
	s.t.Helper()
	args := append([]string{s.mode[0], s.address.Addr().String(), fmt.Sprint(s.address.Port())}, s.mode[1:]...)
	cmd := exec.Command(serverProgram, args...)
	return s.launch(cmd)
}

func (s *server) launch(cmd *exec.Cmd) *exec.Cmd {
	s.t.Helper()
	cmd.Env = append(os.Environ(), "LD_PRELOAD="+library, fmt.Sprintf("SHUNT_PRELOAD=%d=%s", s.address.Port(), s.socket))
	cmd.Env = append(cmd.Env, s.env...)
	cmd.Stderr = os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { s.kill(cmd) })
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "listening\n" {
		s.t.Fatalf("the server says %q, %v", line, err)
	}
	return cmd
}

// kill ends a process and its children; more than once is fine.
func (s *server) kill(cmd *exec.Cmd) {
	if cmd.ProcessState == nil {
		syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL)
		cmd.Wait()
	}
}

func (s *server) signal(sig syscall.Signal) {
	s.t.Helper()
	if err := syscall.Kill(-s.cmd.Process.Pid, sig); err != nil {
		s.t.Fatal(err)
	}
}

func (s *server) untilReady(want bool) {
	s.t.Helper()
	until(s.t, fmt.Sprintf("ready is %v", want), func() bool { return s.agent.Ready() == want })
}

func deadline() time.Time { return time.Now().Add(patience) }

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		<-time.After(2 * time.Millisecond)
	}
}

// session is a connection as the agent has it: a client, and the bare
// descriptor of the other end.
func session(t testing.TB, host string) (client *net.TCPConn, fd int, m attach.Meta) {
	t.Helper()
	l, err := (&net.ListenConfig{}).Listen(context.Background(), "tcp", net.JoinHostPort(host, "0"))
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	c, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	s, err := l.Accept()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := s.(*net.TCPConn).SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(f uintptr) {
		if fd, err = syscall.Dup(int(f)); err == nil {
			syscall.CloseOnExec(fd)
		}
	})
	if err != nil {
		t.Fatal(err)
	}
	// As the agent restores it.
	syscall.SetsockoptInt(fd, syscall.IPPROTO_TCP, syscall.TCP_NODELAY, 0)
	s.Close()
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), fd, attach.Meta{
		ID:      "h1",
		Service: "web",
		Client:  netip.MustParseAddrPort(c.LocalAddr().String()),
		Local:   netip.MustParseAddrPort(c.RemoteAddr().String()),
	}
}

// attached makes a session and gives it to the server, again while that is busy.
func (s *server) attached(host string) *net.TCPConn {
	s.t.Helper()
	client, fd, m := session(s.t, host)
	if err := s.agent.Attach(context.Background(), fd, m); err != nil {
		s.t.Fatal(err)
	}
	return client
}

// direct connects to the server's own listener.
func (s *server) direct() *net.TCPConn {
	s.t.Helper()
	a := s.address
	switch a.Addr() {
	case netip.IPv6Unspecified():
		a = netip.AddrPortFrom(netip.IPv6Loopback(), a.Port())
	case netip.IPv4Unspecified():
		a = netip.AddrPortFrom(netip.MustParseAddr("127.0.0.1"), a.Port())
	}
	c, err := net.Dial("tcp", a.String())
	if err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() { c.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn)
}

// ask sends a line and returns what the server says of the connection.
func ask(t testing.TB, c net.Conn) map[string]string {
	t.Helper()
	said, err := question(c)
	if err != nil {
		t.Fatal(err)
	}
	return said
}

func question(c net.Conn) (map[string]string, error) {
	if _, err := io.WriteString(c, "who am I?\n"); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(c).ReadString('\n')
	if err != nil {
		return nil, err
	}
	said := make(map[string]string)
	for _, f := range strings.Fields(line) {
		k, v, _ := strings.Cut(f, "=")
		said[k] = v
	}
	return said, nil
}

// idle makes a first connection and returns how many descriptors the server has
// without it.
func (s *server) idle() int {
	s.t.Helper()
	c := s.direct()
	ask(s.t, c)
	during := descriptors(s.t, s.cmd.Process.Pid)
	c.Close()
	until(s.t, "the server has closed it", func() bool { return descriptors(s.t, s.cmd.Process.Pid) < during })
	return during - 1
}

// descriptors of a process.
func descriptors(t testing.TB, pid int) int {
	t.Helper()
	d, err := os.ReadDir(fmt.Sprintf("/proc/%d/fd", pid))
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}
