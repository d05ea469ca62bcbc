package sockdiag

import (
	"testing"
	"time"
)

// endOf waits for the end of c's server side. Where the kernel has disconnected
// it before, the event has no remote port.
func endOf(t *testing.T, events <-chan Event, c conn) Event {
	t.Helper()
	timeout := time.After(5 * time.Second)
	for {
		select {
		case e := <-events:
			if e.Local == c.local && (e.Remote == c.remote || e.Remote.Port() == 0) {
				return e
			}
		case <-timeout:
			t.Fatalf("the end of %s to %s was not announced", c.local, c.remote)
		}
	}
}

func TestAConnectionThatWasCutOffIsToldFromOneThatEnded(t *testing.T) {
	readAll := func(c conn) {
		b := make([]byte, 16)
		for {
			if _, err := c.server.Read(b); err != nil {
				return
			}
		}
	}
	for _, x := range []struct {
		name    string
		aborted bool
		do      func(c conn)
	}{
		{"the server closes with unread octets", true, func(c conn) {
			c.client.Write([]byte("hello"))
			c.server.Read(make([]byte, 1))
			c.server.Close()
		}},
		{"the server closes with unread octets after its FIN", true, func(c conn) {
			c.server.CloseWrite()
			c.client.Write([]byte("hello"))
			c.server.Read(make([]byte, 1))
			c.server.Close()
		}},
		{"the client sends RST while there are unread octets", true, func(c conn) {
			c.client.Write([]byte("hello"))
			c.server.Read(make([]byte, 1))
			c.client.SetLinger(0)
			c.client.Close()
			c.server.Write([]byte("x")) // fails once the RST is there
			c.server.Close()
		}},
		{"the server closes first", false, func(c conn) {
			c.client.Write([]byte("hello"))
			c.server.Read(make([]byte, 16))
			c.server.Close()
			c.client.Close()
		}},
		{"the client closes first, and the server reads all", false, func(c conn) {
			c.client.Write([]byte("hello"))
			c.client.Close()
			readAll(c)
			c.server.Close()
		}},
		{"the client closes first, and the server does not read the FIN", false, func(c conn) {
			c.client.Write([]byte("hello"))
			c.server.Read(make([]byte, 16))
			c.client.Close()
			c.server.Close()
		}},
		{"the client half-closes", false, func(c conn) {
			c.client.CloseWrite()
			readAll(c)
			c.server.Write([]byte("answer"))
			c.server.Close()
			c.client.Read(make([]byte, 16))
			c.client.Close()
		}},
	} {
		for _, f := range families {
			t.Run(x.name+" "+f.name, func(t *testing.T) {
				ns := host(t)
				events := watch(t, ns, f.pools)
				c := connect(t, ns, listen(t, ns, "tcp", f.session), f.session)
				x.do(c)
				if e := endOf(t, events, c); e.Aborted() != x.aborted {
					t.Errorf("aborted: %v, want %v: %+v", e.Aborted(), x.aborted, e)
				}
			})
		}
	}
}
