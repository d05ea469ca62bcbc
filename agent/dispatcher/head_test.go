package dispatcher

import (
	"errors"
	"io"
	"strings"
	"syscall"
	"testing"
	"time"
)

const request = "GET /a HTTP/1.1\r\nHost: web\r\n\r\n"

func TestRefusalsCanBeReadToTheirEnd(t *testing.T) {
	for _, c := range []struct {
		name, send string
		timeout    time.Duration
		status     int
		body       string
	}{
		{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00 hello\r\n\r\n", 0, 400, ""},
		{"two lengths", "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabcd", 0, 400, ""},
		{"no host", "GET / HTTP/1.1\r\n\r\n", 0, 400, ""},
		{"incomplete", "GET / HTTP/1.1\r\nHost: w", 50 * time.Millisecond, 408, "the request head was not complete within 50ms"},
		{"too long", "GET / HTTP/1.1\r\nHost: web\r\nX: " + strings.Repeat("x", 2000) + "\r\n\r\n", 0, 431, ""},
		{"too long by far", "GET / HTTP/1.1\r\nHost: web\r\nX: " + strings.Repeat("x", 200_000) + "\r\n\r\n", 0, 431, ""},
		{"no server", request, 0, 503, "no server of web can take the request now"},
		{"no server for a body", "POST / HTTP/1.1\r\nHost: web\r\nContent-Length: 100000\r\n\r\n" + strings.Repeat("x", 100_000), 0, 503, ""},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, Service{HeadTimeout: c.timeout}, nil)
			conn := b.dial()
			conn.say(c.send)
			status, body := conn.response()
			if status != c.status || c.body != "" && body != c.body+"\n" {
				t.Errorf("%d %q, want %d %q", status, body, c.status, c.body)
			}
			conn.closedInOrder()
			conn.Close()
			await(t, "the session is over", func() bool { return len(b.Held()) == 0 })
			if got := b.Counters(); got != (Counters{Refused: 1}) {
				t.Errorf("counters %+v", got)
			}
		})
	}
}

func TestAHeadMayArriveOctetByOctet(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1")}}, nil)
	c := b.dial()
	for i := range request {
		c.say(request[i : i+1])
	}
	if status, body := c.response(); status != 200 || body != "server1 /a" {
		t.Errorf("%d %q", status, body)
	}
}

func TestAHeadOfTheLargestSizePasses(t *testing.T) {
	b := newBed(t, Service{MaxHead: 8192, Servers: []Server{application(t, "server1")}}, nil)
	frame := "GET /a HTTP/1.1\r\nHost: web\r\nX: \r\n\r\n"
	for pad, want := range map[int]int{8192 - len(frame): 200, 8193 - len(frame): 431} {
		c := b.dial()
		c.say(strings.Replace(frame, "X: ", "X: "+strings.Repeat("x", pad), 1))
		if status, _ := c.response(); status != want {
			t.Errorf("a head of %d octets: %d, want %d", len(frame)+pad, status, want)
		}
		c.Close()
	}
}

// A client that half-closes within a head hears what any server would say.
func TestAHeadThatEndsInItsMiddleIsABadRequest(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1")}}, nil)
	c := b.dial()
	c.say("GET / HT")
	await(t, "the session is here", func() bool { return len(b.Held()) == 1 })
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if status, _ := c.response(); status != 400 {
		t.Errorf("answered with %d, want 400", status)
	}
}

// TestNobodyIsAnswered: clients that leave, or never ask, get no response.
func TestNobodyIsAnswered(t *testing.T) {
	for _, c := range []struct {
		name, send string
		timeout    time.Duration
		leave      func(*client) error
	}{
		{"FIN without a request", "", 0, func(c *client) error { return c.CloseWrite() }},
		{"RST in the head", "GET / HT", 0, func(c *client) error {
			if err := c.SetLinger(0); err != nil {
				return err
			}
			return c.Close()
		}},
		{"silence", "", 50 * time.Millisecond, func(*client) error { return nil }},
	} {
		t.Run(c.name, func(t *testing.T) {
			b := newBed(t, Service{HeadTimeout: c.timeout, Servers: []Server{application(t, "server1")}}, nil)
			conn := b.dial()
			conn.say(c.send)
			if c.send != "" {
				await(t, "the session is here", func() bool { return len(b.Held()) == 1 })
			}
			if err := c.leave(conn); err != nil {
				t.Fatal(err)
			}
			if c.name != "RST in the head" {
				// Unread octets make the kernel reset what is closed.
				if got, err := io.ReadAll(conn); len(got) > 0 || err != nil && !errors.Is(err, syscall.ECONNRESET) {
					t.Errorf("got %q, %v", got, err)
				}
			}
			await(t, "the session is over", func() bool { return len(b.Held()) == 0 })
			if got := b.Counters(); got != (Counters{}) {
				t.Errorf("counters %+v", got)
			}
		})
	}
}

func TestAClientMayCloseItsHalfBehindTheRequest(t *testing.T) {
	b := newBed(t, Service{Servers: []Server{application(t, "server1")}}, nil)
	c := b.dial()
	c.say("GET /a HTTP/1.0\r\n\r\n")
	if err := c.CloseWrite(); err != nil {
		t.Fatal(err)
	}
	if status, body := c.response(); status != 200 || body != "server1 /a" {
		t.Errorf("%d %q", status, body)
	}
	c.closedInOrder()
}
