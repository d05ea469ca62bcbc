package testnet

import (
	"net"
	"testing"
)

func TestNamespacesJoinedByVethReachEachOther(t *testing.T) {
	a, b := NewNS(t), NewNS(t)
	Veth(a, "eth0", b, "eth0")
	a.Addr("eth0", "10.0.0.1/24", "fd00::1/64")
	b.Addr("eth0", "10.0.0.2/24", "fd00::2/64")
	for _, addr := range []string{"10.0.0.2:80", "[fd00::2]:80"} {
		var l net.Listener
		b.Do(func() (err error) { l, err = net.Listen("tcp", addr); return })
		defer l.Close()
		a.Do(func() error {
			c, err := net.Dial("tcp", addr)
			if err == nil {
				c.Close()
			}
			return err
		})
	}
}
