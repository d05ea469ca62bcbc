package dispatcher

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/agent/attach"
)

func TestThisNodesOwnApplicationTakesTheConnectionUnmoved(t *testing.T) {
	app := newLocal(t)
	b := newBed(t, Service{Servers: []Server{{Node: "here", Up: true, Ready: true}}}, map[string]attach.Attachment{"web": app})
	c := b.dial()
	c.say(request)
	if status, body := c.response(); status != 200 || body != "local /a" {
		t.Errorf("%d %q", status, body)
	}
	m := <-app.metas
	if m.Service != "web" || m.VIP != vip || m.Client.String() != c.LocalAddr().String() || m.Local.String() != b.addr() || !strings.HasPrefix(m.ID, "here-00000007-") {
		t.Errorf("attached as %+v", m)
	}
	await(t, "the dispatcher let go of it", func() bool { return len(b.Held()) == 0 })
	if got := b.Counters(); got != (Counters{}) || len(b.network.records) != 0 {
		t.Errorf("counters %+v, %d records", got, len(b.network.records))
	}
}

func TestAnApplicationThatDoesNotTakeASessionIsPassedOver(t *testing.T) {
	for name, prepare := range map[string]func(*local){
		"not ready": func(l *local) { l.ready.Store(false) },
		"busy":      func(l *local) { l.fail = attach.ErrBusy },
	} {
		t.Run(name, func(t *testing.T) {
			app := newLocal(t)
			prepare(app)
			b := newBed(t, Service{Servers: []Server{{Node: "here", Up: true, Ready: true}, application(t, "server1")}},
				map[string]attach.Attachment{"web": app})
			c := b.dial()
			c.say(request)
			if status, body := c.response(); status != 200 || body != "server1 /a" {
				t.Errorf("%d %q", status, body)
			}
		})
	}
}

func TestCloseEndsEverySession(t *testing.T) {
	// Far longer than the test waits for Close.
	b := newBed(t, Service{HeadTimeout: 10 * time.Minute, Servers: []Server{application(t, "server1")}}, nil)
	proxied, half := b.dial(), b.dial()
	proxied.say(request)
	proxied.response()
	half.say("GET / HT")
	await(t, "both sessions are here", func() bool { return len(b.Held()) == 2 })
	addr := b.addr()
	var fresh []*client // some are accepted while the dispatcher closes
	for range 20 {
		c := b.dial()
		c.say("GET")
		fresh = append(fresh, c)
	}
	closed := make(chan struct{})
	go func() { defer close(closed); b.Close() }()
	select {
	case <-closed:
	case <-time.After(deadline):
		t.Fatal("Close does not return")
	}
	for _, c := range append(fresh, proxied, half) {
		if got, _ := io.ReadAll(c.r); len(got) > 0 {
			t.Errorf("got %q when the dispatcher closed", got)
		}
	}
	if len(b.Held()) != 0 {
		t.Errorf("held %v", b.Held())
	}
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("connections are still accepted")
	}
	if err := b.Set([]Service{b.service}); err != nil {
		t.Errorf("Set after Close: %v", err)
	}
	b.Close() // once more does nothing
}

func TestAChangedServiceKeepsItsSessions(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1")}}, nil)
	old := b.dial()
	ask := func(c *client, want string) {
		t.Helper()
		c.say(request)
		if _, body := c.response(); body != want {
			t.Errorf("got %q, want %q", body, want)
		}
	}
	ask(old, "server1 /a")
	addr := b.addr()
	b.service.Servers = []Server{application(t, "server2")}
	b.set(b.service)
	if b.addr() != addr {
		t.Error("the listener was replaced")
	}
	ask(b.dial(), "server2 /a")
	ask(old, "server1 /a")

	b.set() // the service is gone
	if c, err := net.Dial("tcp", addr); err == nil {
		c.Close()
		t.Error("a service that is gone accepts connections")
	}
	ask(old, "server1 /a")
}

func TestAServiceThatCannotBeListenedOnDoesNotStopOthers(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1")}}, nil)
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer taken.Close()
	at := netip.MustParseAddrPort(taken.Addr().String())
	err = b.Set([]Service{{Name: "files", Leases: []Lease{{Local: at, VIP: vip}}}, b.service})
	if err == nil || !strings.Contains(err.Error(), "files") || !strings.Contains(err.Error(), at.String()) {
		t.Errorf("got %v, want an error that names the service and %v", err, at)
	}
	c := b.dial()
	c.say(request)
	if status, _ := c.response(); status != 200 {
		t.Errorf("status %d", status)
	}
}
