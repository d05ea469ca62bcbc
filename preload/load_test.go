package preload

import (
	"context"
	"errors"
	"net"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
)

// notReady wants a refusal that left the session as it was.
func notReady(t testing.TB, err error, fd int) {
	t.Helper()
	if !errors.Is(err, attach.ErrNotReady) {
		t.Fatalf("error %v, want %v", err, attach.ErrNotReady)
	}
	var st syscall.Stat_t
	if syscall.Fstat(fd, &st) != nil {
		t.Fatal("the descriptor was closed")
	}
}

func TestHundredsOfSessionsAtOnce(t *testing.T) {
	for _, spec := range []string{"epoll-exclusive 127.0.0.1 nonblock", "prefork 127.0.0.1", "threads 127.0.0.1", "epoll-edge :: nonblock", "select 127.0.0.1"} {
		t.Run(spec, func(t *testing.T) {
			s := newServer(t, spec)
			before := descriptors(t, s.cmd.Process.Pid)
			if !strings.Contains(spec, "prefork") && !strings.Contains(spec, "exclusive") { // there it does not accept itself
				before = s.idle()
			}
			own := descriptors(t, syscall.Getpid())
			const n = 400
			var wg sync.WaitGroup
			for i := range n {
				wg.Go(func() {
					c, fd, m := session(t, "127.0.0.1")
					defer c.Close()
					if i%4 == 0 {
						d := s.direct()
						defer d.Close()
						if _, err := question(d); err != nil {
							t.Error("direct:", err)
						}
					}
					err := s.agent.Attach(context.Background(), fd, m)
					for deadline := time.Now().Add(patience); errors.Is(err, attach.ErrBusy) && time.Now().Before(deadline); {
						<-time.After(5 * time.Millisecond)
						err = s.agent.Attach(context.Background(), fd, m)
					}
					if err != nil {
						t.Error(err)
						return
					}
					if said, err := question(c); err != nil {
						t.Error("session:", err)
					} else {
						accepted(t, "session", said, c, spec)
					}
				})
			}
			wg.Wait()
			until(t, "the server has closed its descriptors", func() bool { return descriptors(t, s.cmd.Process.Pid) <= before })
			until(t, "the agent has closed its descriptors", func() bool { return descriptors(t, syscall.Getpid()) <= own })
		})
	}
}

// A server that does not accept is busy when its backlog is full; what it got
// until then it serves when it goes on.
func TestAStoppedServerIsBusyAndLosesNothing(t *testing.T) {
	s := newServer(t, "epoll 127.0.0.1 nonblock")
	s.signal(syscall.SIGSTOP)
	var clients []net.Conn
	for {
		c, fd, m := session(t, "127.0.0.1")
		begun := time.Now()
		err := s.agent.Attach(context.Background(), fd, m)
		if errors.Is(err, attach.ErrBusy) {
			if took := time.Since(begun); took > time.Second {
				t.Errorf("it took %v to find that the server is busy", took)
			}
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		clients = append(clients, c)
		if len(clients) > 5000 {
			t.Fatal("its queue has no end")
		}
	}
	if len(clients) < 64 {
		t.Errorf("only %d sessions fit into its queue", len(clients))
	}
	s.signal(syscall.SIGCONT)
	for _, c := range clients {
		accepted(t, "session", ask(t, c), c, "nonblock")
		c.Close()
	}
}
