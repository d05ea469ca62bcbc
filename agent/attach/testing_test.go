package attach

import (
	"context"
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if role := os.Getenv(roleVariable); role != "" {
		os.Exit(play(role))
	}
	goleak.VerifyTestMain(m)
}

const patience = 10 * time.Second

// until waits for a condition.
func until(t testing.TB, what string, cond func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !cond(); {
		if time.Now().After(deadline) {
			t.Fatalf("still not: %s", what)
		}
		<-time.After(time.Millisecond)
	}
}

func wait[T any](t testing.TB, ch <-chan T) T {
	t.Helper()
	select {
	case v := <-ch:
		return v
	case <-time.After(patience):
		t.Fatal("nothing happens")
		panic("unreachable")
	}
}

// tcpPair is two ends of a TCP connection.
func tcpPair(t testing.TB, host string) (client, server *net.TCPConn) {
	t.Helper()
	l, err := net.Listen("tcp", net.JoinHostPort(host, "0"))
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
	t.Cleanup(func() { s.Close() })
	c.SetDeadline(time.Now().Add(patience))
	return c.(*net.TCPConn), s.(*net.TCPConn)
}

// session is a connection as the agent has it: a client, and the bare
// descriptor of the other end.
func session(t testing.TB, host string) (client *net.TCPConn, fd int, m Meta) {
	t.Helper()
	client, server := tcpPair(t, host)
	raw, err := server.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	raw.Control(func(s uintptr) { fd, err = syscall.Dup(int(s)) })
	if err != nil {
		t.Fatal(err)
	}
	syscall.CloseOnExec(fd)
	server.Close()
	return client, fd, Meta{
		ID:      "h1",
		Service: "web",
		Client:  netip.MustParseAddrPort(client.LocalAddr().String()),
		Local:   netip.MustParseAddrPort(client.RemoteAddr().String()),
		VIP:     netip.MustParseAddrPort("10.10.0.80:80"),
	}
}

// open reports whether a descriptor of this process is.
func open(fd int) bool {
	var st syscall.Stat_t
	return syscall.Fstat(fd, &st) == nil
}

func descriptors(t testing.TB) int {
	t.Helper()
	d, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(d)
}

func socketPath(t testing.TB) string { return filepath.Join(t.TempDir(), "web.sock") }

func closed(t testing.TB, a Attachment) {
	t.Cleanup(func() {
		if err := a.Close(); err != nil {
			t.Errorf("Close: %v", err)
		}
	})
}

// exchange sends a line and wants it back.
func exchange(t testing.TB, c net.Conn) {
	t.Helper()
	const line = "over and back\n"
	if _, err := io.WriteString(c, line); err != nil {
		t.Errorf("write: %v", err)
	}
	b := make([]byte, len(line))
	if _, err := io.ReadFull(c, b); string(b) != line || err != nil {
		t.Errorf("read %q, %v; want %q", b, err, line)
	}
}

func isReset(err error) bool {
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE)
}

func background() context.Context { return context.Background() }
