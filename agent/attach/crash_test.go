package attach

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"sync"
	"syscall"
	"testing"

	"github.com/shunt-sdn/shunt/handoff"
)

// The test program plays an agent or an application when this is set.
const roleVariable = "SHUNT_TEST_ROLE"

// process is the test program in another role.
type process struct {
	t     testing.TB
	cmd   *exec.Cmd
	lines *bufio.Scanner
	kill  sync.Once
}

func start(t testing.TB, role, socket string) *process {
	t.Helper()
	cmd := exec.Command(os.Args[0], socket)
	cmd.Env = append(os.Environ(), roleVariable+"="+role)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	p := &process{t: t, cmd: cmd, lines: bufio.NewScanner(out)}
	t.Cleanup(p.crash)
	return p
}

// says returns the next line that the process prints.
func (p *process) says() string {
	p.t.Helper()
	if !p.lines.Scan() {
		p.t.Fatalf("the process ended: %v", p.lines.Err())
	}
	return p.lines.Text()
}

// crash kills it with SIGKILL.
func (p *process) crash() {
	p.kill.Do(func() {
		p.cmd.Process.Kill()
		p.cmd.Wait()
	})
}

// playAgent accepts connections itself and attaches them, one line for each.
func playAgent(socket string) error {
	l, err := NewListener(background(), ListenerConfig{Socket: socket})
	if err != nil {
		return err
	}
	front, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return err
	}
	fmt.Println(front.Addr())
	for {
		c, err := front.Accept()
		if err != nil {
			return err
		}
		fd := -1
		raw, err := c.(*net.TCPConn).SyscallConn()
		if err != nil {
			return err
		}
		raw.Control(func(s uintptr) { fd, err = syscall.Dup(int(s)) })
		if err != nil {
			return err
		}
		m := Meta{
			ID:     "h1",
			Client: netip.MustParseAddrPort(c.RemoteAddr().String()),
			Local:  netip.MustParseAddrPort(c.LocalAddr().String()),
		}
		c.Close()
		for err = ErrNotReady; errors.Is(err, ErrNotReady); {
			err = l.Attach(background(), fd, m)
		}
		if err != nil {
			return err
		}
		fmt.Println("attached")
	}
}

// playApplication echoes.
func playApplication(socket string) error {
	h, err := handoff.Listen(context.Background(), handoff.Options{Socket: socket})
	if err != nil {
		return err
	}
	for {
		c, err := h.Accept()
		if err != nil {
			return err
		}
		go func() {
			io.Copy(c, c)
			c.Close()
		}()
	}
}

func play(role string) int {
	roles := map[string]func(string) error{"agent": playAgent, "application": playApplication}
	if err := roles[role](os.Args[len(os.Args)-1]); err != nil {
		fmt.Fprintln(os.Stderr, role+":", err)
		return 1
	}
	return 0
}

func dial(t testing.TB, addr string) net.Conn {
	t.Helper()
	c, err := net.Dial("tcp", addr)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c
}

func TestSessionsOutliveAnAgentThatIsKilled(t *testing.T) {
	socket := socketPath(t)
	start(t, "application", socket)
	var clients []net.Conn
	for range 3 {
		agent := start(t, "agent", socket) // finds its predecessor's socket
		addr := agent.says()
		for range 3 {
			clients = append(clients, dial(t, addr))
			if s := agent.says(); s != "attached" {
				t.Fatal(s)
			}
		}
		agent.crash()
		for _, c := range clients {
			exchange(t, c)
		}
	}
}

func TestAnApplicationThatIsKilledIsNoticed(t *testing.T) {
	l := newListener(t, ListenerConfig{})
	app := start(t, "application", l.cfg.Socket)
	connected(t, l, 1)
	client, fd, m := session(t, "127.0.0.1")
	if err := l.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	exchange(t, client)
	app.crash()
	connected(t, l, 0)
	if l.Ready() {
		t.Error("ready")
	}
	if b, err := io.ReadAll(client); len(b) != 0 || err != nil && !isReset(err) {
		t.Errorf("the client reads %q, %v; want its connection's end", b, err)
	}
	start(t, "application", l.cfg.Socket)
	connected(t, l, 1)
	client, fd, m = session(t, "127.0.0.1")
	if err := l.Attach(background(), fd, m); err != nil {
		t.Fatal(err)
	}
	exchange(t, client)
}
