package preload

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
)

// The test program plays an agent when this is set.
const roleVariable = "SHUNT_TEST_ROLE"

// playAgent accepts connections itself and attaches them, one line for each.
func playAgent() int {
	p, err := attach.NewPreload(attach.PreloadConfig{Socket: os.Args[1], Connect: netip.MustParseAddrPort(os.Args[2]), Probe: 10 * time.Millisecond})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	fmt.Println(l.Addr())
	for {
		c, err := l.Accept()
		if err != nil {
			return 1
		}
		fd := -1
		raw, _ := c.(*net.TCPConn).SyscallConn()
		raw.Control(func(s uintptr) { fd, err = syscall.Dup(int(s)) })
		m := attach.Meta{ID: "h1", Client: netip.MustParseAddrPort(c.RemoteAddr().String()), Local: netip.MustParseAddrPort(c.LocalAddr().String())}
		c.Close()
		if err == nil {
			err = p.Attach(context.Background(), fd, m)
		}
		fmt.Println(err)
	}
}

// agentProcess starts one and returns where it accepts.
func (s *server) agentProcess() (cmd *exec.Cmd, address string, says func() string) {
	s.t.Helper()
	cmd = exec.Command(os.Args[0], s.socket, s.address.String())
	cmd.Env = append(os.Environ(), roleVariable+"=agent")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		s.t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		s.t.Fatal(err)
	}
	s.t.Cleanup(func() {
		if cmd.ProcessState == nil {
			cmd.Process.Kill()
			cmd.Wait()
		}
	})
	lines := bufio.NewScanner(out)
	says = func() string {
		s.t.Helper()
		if !lines.Scan() {
			s.t.Fatalf("the agent ended: %v", lines.Err())
		}
		return lines.Text()
	}
	return cmd, says(), says
}

func TestTheServerRunsOnWithoutItsAgentAndFindsItAgain(t *testing.T) {
	s := newServer(t, "epoll-exclusive 127.0.0.1 nonblock")
	var clients []net.Conn
	for range 3 {
		cmd, address, says := s.agentProcess()
		for range 5 {
			c, err := net.Dial("tcp", address)
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			c.SetDeadline(time.Now().Add(patience))
			if line := says(); line != "<nil>" {
				t.Fatal(line)
			}
			clients = append(clients, c)
		}
		cmd.Process.Kill() // perhaps before the server has accepted them
		cmd.Wait()
		for _, c := range clients {
			ask(t, c)
		}
		ask(t, s.direct())
	}
}

func TestAServerThatRestartsIsFoundAgain(t *testing.T) {
	s := newServer(t, "prefork 127.0.0.1")
	for range 3 {
		c := s.attached("127.0.0.1")
		ask(t, c)
		s.kill(s.cmd)
		if _, err := question(c); err == nil {
			t.Error("the session outlives the server")
		}
		s.untilReady(false)
		client, fd, m := session(t, "127.0.0.1")
		err := s.agent.Attach(context.Background(), fd, m)
		notReady(t, err, fd)
		s.start()
		s.untilReady(true)
		if err := s.agent.Attach(context.Background(), fd, m); err != nil {
			t.Fatal(err)
		}
		ask(t, client)
	}
}

// Sessions in the queue of a server that dies are reset, as in any backlog.
func TestSessionsThatNobodyAcceptedEndWithTheServer(t *testing.T) {
	s := newServer(t, "epoll 127.0.0.1 nonblock")
	s.signal(syscall.SIGSTOP)
	c := s.attached("127.0.0.1")
	s.kill(s.cmd)
	if _, err := question(c); err == nil {
		t.Error("an answer from nobody")
	}
}
