package e2e

import (
	"fmt"
	"io"
	"net"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// A body that follows the head of a request by itself arrives while the session
// is on its way to a server. It has to get there, too, and not only when the
// client sends it again.
func TestABodyThatFollowsItsHeadDuringTheHandOffIsNotLost(t *testing.T) {
	for _, o := range []lab.Options{
		{Switch: lab.SwitchOVS, Steering: "conntrack", IPv6: true},
		{Switch: lab.SwitchOVS, Steering: "flows", IPv6: true},
	} {
		t.Run(o.Steering, func(t *testing.T) {
			c := up(t, o)
			const n = 300
			again, held := 0, c.guarded("diverted_again")
			for i := range n {
				vip := c.Service().VIPs()[i%2]
				conn, err := c.Dial("client1")(t.Context(), "tcp", net.JoinHostPort(vip.String(), fmt.Sprint(c.Service().Port)))
				if err != nil {
					t.Fatal(err)
				}
				conn.SetDeadline(time.Now().Add(10 * time.Second))
				begun := time.Now()
				_, err = io.WriteString(conn, "POST /echo HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: 5\r\n\r\n")
				for err == nil && time.Since(begun) < time.Duration(i%8)*40*time.Microsecond {
				}
				if err == nil {
					_, err = io.WriteString(conn, "hello")
				}
				answer, e := io.ReadAll(conn)
				again += retransmissions(t, conn.(*net.TCPConn))
				conn.Close()
				if err != nil || e != nil || !strings.Contains(string(answer), `"length":5`) {
					t.Fatalf("request %d: %v, %v, %q", i, err, e, answer)
				}
			}
			c.await(5*time.Second, func() string {
				if c.guarded("diverted_again") == held {
					return "no guard has sent anything on again: nothing was early"
				}
				return ""
			})
			// Without guards that send on again it is nearly one in three.
			if again > n/7 {
				t.Errorf("clients have sent %d segments again, in %d requests", again, n)
			}
			t.Logf("clients have sent %d segments again, in %d requests", again, n)
		})
	}
}

// retransmissions counts the segments that a connection has sent again.
func retransmissions(t *testing.T, conn *net.TCPConn) int {
	t.Helper()
	raw, err := conn.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	var info *unix.TCPInfo
	if e := raw.Control(func(fd uintptr) { info, err = unix.GetsockoptTCPInfo(int(fd), unix.IPPROTO_TCP, unix.TCP_INFO) }); e != nil || err != nil {
		t.Fatal(e, err)
	}
	return int(info.Total_retrans)
}

// guarded adds up a decision of all guards, as agents have last reported it.
func (c *cluster) guarded(decision string) (packets uint64) {
	c.t.Helper()
	r, err := c.operator.ListNodes(c.t.Context(), &shuntv1.ListNodesRequest{})
	if err != nil {
		c.t.Fatal(err)
	}
	for _, n := range r.Nodes {
		packets += n.Report.GetGuard()[decision]
	}
	return packets
}
