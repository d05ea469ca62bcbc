package dispatcher

import (
	"io"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// departure counts how a server's account of a session ended.
type departure struct{ gone, back int }

func (d *departure) Gone()        { d.gone++ }
func (d *departure) Back() uint32 { d.back++; return 2 }

// An idle session goes only if it is idle still: what came is routed first.
func TestAnIdleSessionWithARequestStays(t *testing.T) {
	testnet.NeedRoot(t) // CAP_NET_ADMIN, for TCP_REPAIR
	for _, x := range []struct {
		name, sends string
		fin, goes   bool
	}{
		{name: "idle", goes: true},
		{name: "a request has come", sends: "GET / HTTP/1.1\r\n"},
		{name: "a FIN has come", fin: true},
	} {
		t.Run(x.name, func(t *testing.T) {
			s1 := &target{node: "s1", answer: refuses}
			b := newBed(t, Service{}, nil)
			b.targets(s1)
			l, err := net.Listen("tcp", "127.0.0.1:0")
			if err != nil {
				t.Fatal(err)
			}
			defer l.Close()
			client, err := net.Dial("tcp", l.Addr().String())
			if err != nil {
				t.Fatal(err)
			}
			defer client.Close()
			c, err := l.Accept()
			if err != nil {
				t.Fatal(err)
			}
			f, err := c.(*net.TCPConn).File()
			c.Close()
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			fd := int(f.Fd())
			if err := unix.SetNonblock(fd, true); err != nil {
				t.Fatal(err)
			}
			client.Write([]byte(x.sends))
			if x.fin {
				client.(*net.TCPConn).CloseWrite()
			}
			buf := make([]byte, 100)
			await(t, "it arrives", func() bool {
				n, _, err := unix.Recvfrom(fd, buf, unix.MSG_PEEK|unix.MSG_DONTWAIT)
				return err == nil && (n == len(x.sends) || x.fin) || x.goes
			})
			d := &departure{}
			err = b.HandOn(t.Context(), fd, Onward{
				ID: "h2", Origin: "h1", Hop: 1, Departure: d, Idle: true,
				Client: netip.MustParseAddrPort(client.LocalAddr().String()), Local: netip.MustParseAddrPort(client.RemoteAddr().String()),
				VIP: vip, Service: b.service, Target: movable(Server{Node: "s1", Up: true, Ready: true}),
			})
			if err == nil || !x.goes && !strings.Contains(err.Error(), errNotIdle.Error()) {
				t.Errorf("HandOn: %v", err)
			}
			if n := len(s1.received()); n > 0 != x.goes {
				t.Errorf("%d imports were offered", n)
			}
			if *d != (departure{back: 1}) {
				t.Errorf("the account was closed as %+v", *d)
			}
			// It is as it was.
			if !x.fin {
				client.Write([]byte("more"))
			}
			after, err := net.FileConn(f)
			if err != nil {
				t.Fatal(err)
			}
			defer after.Close()
			after.SetDeadline(time.Now().Add(deadline))
			n, err := after.Read(buf)
			if want := x.sends + "more"; x.fin && err != io.EOF || !x.fin && (n == 0 || !strings.HasPrefix(want, string(buf[:n])) || err != nil) {
				t.Errorf("read %q, %v", buf[:n], err)
			}
		})
	}
}
