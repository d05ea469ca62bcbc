package testovs_test

import (
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/testovs"
)

func TestAPrivateSwitchForwardsAndSurvivesRestarts(t *testing.T) {
	sw, a, b := testnet.NewNS(t), testnet.NewNS(t), testnet.NewNS(t)
	testnet.Veth(sw, "p1", a, "eth0")
	testnet.Veth(sw, "p2", b, "eth0")
	a.Addr("eth0", "192.0.2.1/24")
	b.Addr("eth0", "192.0.2.2/24")
	s := testovs.Start(t, sw)
	if n := s.AddPort("p1", 11); n != 11 {
		t.Errorf("port 11 has number %d", n)
	}
	s.AddPort("p2", 12)
	testovs.NoOffload(a, "eth0")
	testovs.NoOffload(b, "eth0")
	var l net.Listener
	b.Do(func() (err error) {
		l, err = net.Listen("tcp", "192.0.2.2:80")
		return err
	})
	defer l.Close()
	forward := func() {
		s.Ofctl("add-flow", "br0", "in_port=11,actions=output:12")
		s.Ofctl("add-flow", "br0", "in_port=12,actions=output:11")
		a.Do(func() error {
			c, err := net.DialTimeout("tcp", "192.0.2.2:80", 10*time.Second)
			if err != nil {
				return err
			}
			return c.Close()
		})
	}
	forward()
	s.Restart()
	if flows := s.Ofctl("dump-flows", "br0"); strings.Contains(flows, "in_port") {
		t.Errorf("flows after a restart:\n%s", flows)
	}
	forward()
	s.Kill()
	s.Resume()
	forward()
	if show := s.Appctl("dpctl/show"); !strings.Contains(show, "netdev@") {
		t.Errorf("not the userspace datapath:\n%s", show)
	}
}

func TestNothingIsLeftBehind(t *testing.T) {
	var dir string
	t.Run("switch", func(t *testing.T) {
		s := testovs.Start(t, testnet.NewNS(t), testovs.WithDPID(0xabc), testovs.WithTSO())
		dir = s.Dir()
		if show := s.Ofctl("show", "br0"); !strings.Contains(show, "dpid:0000000000000abc") {
			t.Errorf("ovs-ofctl show:\n%s", show)
		}
		goOn := s.Suspend()
		goOn()
		s.Ofctl("show", "br0")
	})
	if _, err := os.Stat(dir); err == nil {
		t.Errorf("%s still exists", dir)
	}
}
