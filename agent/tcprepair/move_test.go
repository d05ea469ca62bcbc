package tcprepair

import (
	"testing"

	"golang.org/x/sys/unix"
)

func TestAnIdleConnectionMovesWithItsUnreadRequest(t *testing.T) {
	for family := range sessionAddrs {
		t.Run(family, func(t *testing.T) {
			b := newBed(t)
			c, fd := b.open(family)
			request, reply, more := pattern(300, 1), pattern(5000, 2), pattern(70000, 3)
			c.Write(request)
			b.awaitUnread(fd, len(request))
			s, to := b.move(fd)
			ti, _ := unix.GetsockoptTCPInfo(to, unix.IPPROTO_TCP, unix.TCP_INFO)
			t.Logf("%+v", *s)
			t.Logf("%+v", *ti)
			server := b.conn(to)
			expect(t, server, request, false)
			server.Write(reply)
			expect(t, c, reply, false)
			go c.Write(more)
			expect(t, server, more, false)
			server.Close()
			expect(t, c, nil, true)
			b.noResets()
		})
	}
}
