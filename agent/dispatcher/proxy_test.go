package dispatcher

import (
	"crypto/sha256"
	"fmt"
	"io"
	"strings"
	"testing"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestASessionThatCannotBeMovedIsProxied(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1")}}, nil)
	c := b.dial()
	for range 3 { // one connection: the proxy chose once
		c.say(request)
		if status, body := c.response(); status != 200 || body != "server1 /a" {
			t.Fatalf("%d %q", status, body)
		}
	}
	held := b.Held()
	if len(held) != 1 || held[0].Path != shuntv1.Path_PATH_PROXIED || held[0].ProxiedTo != "server1" {
		t.Fatalf("held %v", held)
	}
	from, to, err := held[0].Session.Ends()
	if err != nil || from.String() != c.LocalAddr().String() || to.String() != b.addr() {
		t.Errorf("held %v to %v, %v", from, to, err)
	}
	if got := b.Counters(); got != (Counters{Proxied: 1}) {
		t.Errorf("counters %+v", got)
	}
	c.Close()
	await(t, "the session is over", func() bool { return len(b.Held()) == 0 })
	if len(b.network.diverted)+len(b.network.records) != 0 {
		t.Error("a hand-off was begun without a server that could take it")
	}
}

func TestBodiesPassTheProxyWhole(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1")}}, nil)
	body := strings.Repeat("0123456789abcdef", 1<<16)
	want := fmt.Sprintf("%d %x", len(body), sha256.Sum256([]byte(body)))
	for name, text := range map[string]string{
		"length":  fmt.Sprintf("POST / HTTP/1.1\r\nHost: web\r\nContent-Length: %d\r\n\r\n%s", len(body), body),
		"chunked": fmt.Sprintf("POST / HTTP/1.1\r\nHost: web\r\nTransfer-Encoding: chunked\r\n\r\n%x\r\n%s\r\n0\r\n\r\n", len(body), body),
		"waits":   "POST / HTTP/1.1\r\nHost: web\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\n",
	} {
		c := b.dial()
		sent := make(chan error, 1)
		go func() { _, err := io.WriteString(c, text); sent <- err }()
		status, got := c.response()
		if name == "waits" {
			if status != 100 {
				t.Errorf("%s: %d, want 100", name, status)
			}
			c.say("hello")
			status, got = c.response()
			if want := fmt.Sprintf("5 %x", sha256.Sum256([]byte("hello"))); status != 200 || got != want {
				t.Errorf("%s: %d %q", name, status, got)
			}
		} else if status != 200 || got != want {
			t.Errorf("%s: %d %q, want %q", name, status, got, want)
		}
		if err := <-sent; err != nil {
			t.Errorf("%s: %v", name, err)
		}
		c.Close()
	}
}

func TestTheProxyTriesTheNextServer(t *testing.T) {
	down := application(t, "down")
	down.Up = false
	for _, c := range []struct {
		name    string
		servers []Server
		want    string
	}{
		{"one does not listen", []Server{absent(t, "server1"), application(t, "server2")}, "server2 /a"},
		{"one has no address", []Server{{Node: "server1", Up: true}, application(t, "server2")}, "server2 /a"},
		{"one is down", []Server{down, application(t, "server2")}, "server2 /a"},
		{"the controller's word is not the last", []Server{absent(t, "server1"), down}, "down /a"},
		{"none answers", []Server{absent(t, "server1"), absent(t, "server2")}, "no server of web can take the request now\n"},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, Service{Servers: c.servers}, nil)
			for range 2 { // each has its turn as the first
				conn := b.dial()
				conn.say(request)
				if _, body := conn.response(); body != c.want {
					t.Errorf("got %q, want %q", body, c.want)
				}
				conn.Close()
			}
		})
	}
}

func TestProxiedSessionsAreSpread(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1"), application(t, "server2")}}, nil)
	turns := make(map[string]int)
	for range 6 {
		c := b.dial()
		c.say(request)
		_, body := c.response()
		turns[body]++
		c.Close()
	}
	if turns["server1 /a"] != 3 || turns["server2 /a"] != 3 {
		t.Errorf("turns %v", turns)
	}
}
