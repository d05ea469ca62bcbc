package e2e

import (
	"bufio"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// A server that closes while octets of a request are unread resets its client. If
// that one RST does not do, the client's next octets have to be answered by
// another, as the server's kernel would do.
func TestAClientThatGoesOnSendingIsResetSoon(t *testing.T) {
	testnet.NeedProgram(t, "nft")
	for _, o := range []lab.Options{
		{Servers: 1, Steering: "flows"},
		{Servers: 1, Switch: lab.SwitchOVS, Steering: "conntrack"},
	} {
		t.Run(o.Steering, func(t *testing.T) {
			c := up(t, o)
			c.resetWithin("the server's RST arrives", 1500*time.Millisecond)
			c.exec("server1", "nft", "add table inet lost; add chain inet lost out { type filter hook output priority 0; }; add rule inet lost out oifname eth0 tcp flags & rst == rst drop")
			c.resetWithin("the server's RST is lost", 1500*time.Millisecond)
		})
	}
}

// resetWithin has a server answer a request of which it does not read the body, and
// measures from the answer's end how long the client can go on sending it. Go's
// server waits half a second before it closes.
func (c *cluster) resetWithin(when string, limit time.Duration) {
	c.t.Helper()
	conn, err := c.Dial("client1")(c.t.Context(), "tcp", net.JoinHostPort(c.Service().VIP.String(), fmt.Sprint(c.Service().Port)))
	if err != nil {
		c.t.Fatal(err)
	}
	defer conn.Close()
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := io.WriteString(conn, "POST /reject HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n"+strings.Repeat("x", 20_000)); err != nil {
		c.t.Fatal(err)
	}
	r := bufio.NewReader(conn)
	res, err := http.ReadResponse(r, nil)
	if err != nil || res.StatusCode != http.StatusRequestEntityTooLarge {
		c.t.Fatalf("%s: %v, %v", when, res, err)
	}
	if _, err := io.Copy(io.Discard, r); err != nil {
		c.t.Fatalf("%s: the answer's end: %v", when, err)
	}
	answered := time.Now()
	for err == nil {
		_, err = conn.Write([]byte("x"))
		<-time.After(10 * time.Millisecond)
	}
	took := time.Since(answered).Round(time.Millisecond)
	c.t.Logf("%s: %v after %v", when, err, took)
	if !errors.Is(err, unix.ECONNRESET) && !errors.Is(err, unix.EPIPE) || took > limit {
		c.t.Errorf("%s: %v after %v, want a reset within %v", when, err, took, limit)
	}
}
