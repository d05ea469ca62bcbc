package sockdiag

import (
	"fmt"
	"io"
	"net"
	"testing"
)

// BenchmarkList lists 50,000 connections. They are in TIME-WAIT, since in that
// state they need no descriptors.
func BenchmarkList(b *testing.B) {
	const connections = 50000
	ns := host(b)
	l := listen(b, ns, "tcp", "10.9.0.1:80")
	ns.Do(func() error {
		for i := range connections {
			// Each from a port of its own: a SYN from the same one ends TIME-WAIT.
			d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.IPv4(10, 8, 0, byte(1+i/20000)), Port: 10000 + i%20000}}
			c, err := d.Dial("tcp", "10.9.0.1:80")
			if err != nil {
				return fmt.Errorf("connection %d: %w", i, err)
			}
			s, err := l.Accept()
			if err != nil {
				return err
			}
			s.Close()
			io.Copy(io.Discard, c)
			c.Close()
		}
		return nil
	})
	for b.Loop() {
		var sockets []Socket
		ns.Do(func() (err error) {
			sockets, err = List(b.Context(), families[0].pools)
			return
		})
		if len(sockets) < connections {
			b.Fatalf("listed %d sockets, want %d: is net.ipv4.tcp_max_tw_buckets lower?", len(sockets), connections)
		}
	}
}
