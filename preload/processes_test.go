package preload

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"github.com/shunt-sdn/shunt/agent/attach"
)

// Of processes that share a port, each with a listener of its own, one has the
// queue; knocks find it.
func TestKnocksFindTheProcessThatHasTheQueue(t *testing.T) {
	s := newServer(t, "epoll 127.0.0.1 nonblock reuseport")
	second := s.run()
	for range 100 {
		c := s.attached("127.0.0.1")
		if said := ask(t, c); said["pid"] != fmt.Sprint(second.Process.Pid) {
			t.Fatalf("process %s answers, but %d has the queue", said["pid"], second.Process.Pid)
		}
		c.Close()
	}
}

// A new program on inherited listeners, such as nginx's at a binary upgrade.
func TestInheritedListenersGetTheirQueue(t *testing.T) {
	for name, variables := range map[string]string{
		"from systemd":       "LISTEN_FDS=1 LISTEN_PID=$$",
		"from an older self": "NGINX='3;'",
	} {
		t.Run(name, func(t *testing.T) {
			s := newServer(t, "epoll 127.0.0.1 nonblock")
			s.kill(s.cmd)
			l, err := net.Listen("tcp", s.address.String())
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			f, err := l.(*net.TCPListener).File()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			cmd := exec.Command("sh", "-c", variables+` exec "$0" epoll 127.0.0.1 "$1" inherited nonblock`, serverProgram, strconv.Itoa(int(s.address.Port())))
			cmd.ExtraFiles = []*os.File{f}
			s.launch(cmd)
			s.untilReady(true)
			c := s.attached("127.0.0.1")
			accepted(t, "session", ask(t, c), c, "nonblock")
		})
	}
}

// A worker that dies with a knock in its hands leaves no session behind.
func TestWorkersThatDieLeaveNoSessionWaiting(t *testing.T) {
	s := newServer(t, "prefork 127.0.0.1")
	var workers []string
	until(t, "there are three workers", func() bool {
		children, err := os.ReadFile(fmt.Sprintf("/proc/%d/task/%[1]d/children", s.cmd.Process.Pid))
		if err != nil {
			t.Fatal(err)
		}
		workers = strings.Fields(string(children))
		return len(workers) == 3
	})
	var clients []net.Conn
	for i := range 300 {
		clients = append(clients, s.attached("127.0.0.1"))
		if i == 100 || i == 200 {
			pid, _ := strconv.Atoi(workers[i/100-1])
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
		}
	}
	for _, c := range clients {
		var timeout net.Error
		if _, err := question(c); errors.As(err, &timeout) && timeout.Timeout() {
			t.Fatal("a session waits for ever")
		}
		c.Close()
	}
}

// At its limit of open files a server gets EMFILE, and its sessions later.
func TestSessionsWaitWhileAServerHasNoDescriptors(t *testing.T) {
	s := newServer(t, "epoll 127.0.0.1 nonblock")
	s.kill(s.cmd)
	s.untilReady(false)
	s.cmd = s.launch(exec.Command("sh", "-c", `ulimit -n 30; exec "$0" epoll 127.0.0.1 "$1" nonblock`, serverProgram, strconv.Itoa(int(s.address.Port()))))
	s.untilReady(true)
	var clients []net.Conn
	for range 60 {
		clients = append(clients, s.attached("127.0.0.1"))
	}
	for _, c := range clients {
		accepted(t, "session", ask(t, c), c, "nonblock")
		c.Close() // makes room for the next
	}
}

// What a server has not accepted when the agent ends, it accepts later.
func TestClosingTheAttachmentLeavesTheQueueAsItIs(t *testing.T) {
	s := newServer(t, "epoll-edge 127.0.0.1 nonblock")
	s.signal(syscall.SIGSTOP)
	var clients []net.Conn
	for range 20 {
		clients = append(clients, s.attached("127.0.0.1"))
	}
	if err := s.agent.Close(); err != nil {
		t.Fatal(err)
	}
	if s.agent.Ready() {
		t.Error("ready, but closed")
	}
	_, fd, m := session(t, "127.0.0.1")
	if err := s.agent.Attach(context.Background(), fd, m); !errors.Is(err, attach.ErrClosed) {
		t.Errorf("error %v, want %v", err, attach.ErrClosed)
	}
	syscall.Close(fd)
	s.signal(syscall.SIGCONT)
	for _, c := range clients {
		accepted(t, "session", ask(t, c), c, "nonblock")
	}
}
