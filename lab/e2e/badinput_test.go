package e2e

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/lab"
)

func TestBadRequestsGetTheRightStatusAndDisturbNobody(t *testing.T) {
	c := up(t, lab.Options{IPv6: true})
	const n = 40_000_000
	other := make(chan error, 1)
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	go func() { other <- download(ctx, c.client("client1"), c.urls(fmt.Sprintf("/bytes/%d", n))[0], n) }()
	dial := c.Dial("client1")
	for _, vip := range c.Service().VIPs() {
		address := net.JoinHostPort(vip.String(), fmt.Sprint(c.Service().Port))
		for _, tc := range []struct {
			name, request string
			status        int
		}{
			{"not HTTP", "\x16\x03\x01\x02\x00\x01\x00\x01\xfc", 400},
			{"HTTP/2 preface", "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400},
			{"two lengths", "POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc", 400},
			{"no host", "GET / HTTP/1.1\r\n\r\n", 400},
			{"head too large", "GET / HTTP/1.1\r\nHost: x\r\nX: " + strings.Repeat("a", 20<<10) + "\r\n\r\n", 431},
			{"head never complete", "GET / HTTP/1.1\r\nHost: x\r\n", 408},
		} {
			t.Run(fmt.Sprintf("%v %s", vip, tc.name), func(t *testing.T) {
				conn, err := dial(t.Context(), "tcp", address)
				if err != nil {
					t.Fatal(err)
				}
				defer conn.Close()
				conn.SetDeadline(time.Now().Add(20 * time.Second))
				if _, err := io.WriteString(conn, tc.request); err != nil {
					t.Fatal(err)
				}
				resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
				if err != nil {
					t.Fatal(err)
				}
				body, err := io.ReadAll(resp.Body)
				if err != nil {
					t.Errorf("the connection did not end with the answer: %v", err)
				}
				if resp.StatusCode != tc.status || len(body) == 0 {
					t.Errorf("got %s with %q, want status %d and a reason", resp.Status, body, tc.status)
				}
			})
		}
	}
	if err := <-other; err != nil {
		t.Errorf("another session was disturbed: %v", err)
	}
}

// Nobody listens on other ports of a virtual IP, and the switch sends what is
// for no service nowhere.
func TestAPortWithoutAServiceIsNotAnswered(t *testing.T) {
	c := up(t, lab.Options{})
	ctx, cancel := context.WithTimeout(t.Context(), time.Second)
	defer cancel()
	conn, err := c.Dial("client1")(ctx, "tcp", net.JoinHostPort(c.Service().VIPs()[0].String(), "81"))
	if err == nil {
		conn.Close()
		t.Fatal("connected")
	}
	if e := net.Error(nil); !errors.As(err, &e) {
		t.Errorf("error %v", err)
	}
	if err := download(t.Context(), c.client("client1"), c.urls("/bytes/10")[0], 10); err != nil {
		t.Errorf("the service is disturbed: %v", err)
	}
}
