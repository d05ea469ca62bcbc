package fabric

import (
	"net"
	"net/netip"
	"strings"
	"testing"
)

func TestConfigurationsThatCannotWorkAreRefused(t *testing.T) {
	p, a := netip.MustParsePrefix, netip.MustParseAddr
	good := func() Config {
		return Config{Switches: []Switch{{DPID: 1, Interfaces: []Interface{
			{Name: "a", Addresses: []netip.Prefix{p("10.0.1.1/24"), p("fd01::1/64")}, Ports: []string{"p1"}},
			{Name: "b", Addresses: []netip.Prefix{p("10.0.2.1/24")}, Ports: []string{"p2"}},
		}, Routes: []Route{{To: p("0.0.0.0/0"), Via: a("10.0.1.9")}, {To: p("::/0"), Via: a("fd01::9")}}}}}
	}
	if f, err := New(good()); err != nil {
		t.Fatal(err)
	} else if m := f.devices[0].cfg.Interfaces; m[0].MAC.String() == m[1].MAC.String() || m[0].MAC[0] != 2 {
		t.Errorf("hardware addresses %v and %v", m[0].MAC, m[1].MAC)
	}
	for name, tt := range map[string]struct {
		change func(*Config)
		want   string
	}{
		"mode":       {func(c *Config) { c.Switches[0].Steering = "magic" }, `"magic"`},
		"interfaces": {func(c *Config) { c.Switches[0].Interfaces = nil }, "no interfaces"},
		"same port":  {func(c *Config) { c.Switches[0].Interfaces[1].Ports = []string{"p1"} }, `"p1"`},
		"multicast":  {func(c *Config) { c.Switches[0].Interfaces[0].MAC = net.HardwareAddr{1, 0, 0, 0, 0, 0} }, "hardware address"},
		"address":    {func(c *Config) { c.Switches[0].Interfaces[0].Addresses = []netip.Prefix{{}} }, "address"},
		"router":     {func(c *Config) { c.Switches[0].Routes[0].Via = a("10.0.9.9") }, "10.0.9.9"},
		"families":   {func(c *Config) { c.Switches[0].Routes[0].Via = a("fd01::9") }, "one family"},
		"no dpid": {func(c *Config) {
			c.Switches[0].DPID = 0
			c.Switches = append(c.Switches, Switch{Connect: "tcp:10.0.9.1:6653", Interfaces: c.Switches[0].Interfaces})
		}, "no dpid"},
		"same switch": {func(c *Config) { c.Switches = append(c.Switches, c.Switches[0]) }, "dpid"},
	} {
		c := good()
		tt.change(&c)
		if _, err := New(c); err == nil || !strings.Contains(err.Error(), tt.want) {
			t.Errorf("%s: error %v, want one about %s", name, err, tt.want)
		}
	}
}

func TestHomesThatWereUpLastStayWhenAllAreDown(t *testing.T) {
	a := netip.MustParseAddr
	topo := func(up ...bool) Topology {
		s := Service{Name: "web", Port: 80, VIPs: []netip.Addr{a("10.0.0.1"), a("fd00::1")}}
		for i, u := range up {
			s.Homes = append(s.Homes, Home{Node: string(rune('a' + i)), VIP: s.VIPs[i%2], Session: a("172.31.0.1"), Up: u})
		}
		return Topology{Services: []Service{s}}
	}
	for _, tt := range []struct{ last, now, want []bool }{
		{[]bool{true, true, false, false}, []bool{false, false, false, false}, []bool{true, true, false, false}},
		{[]bool{true, true, true, true}, []bool{false, true, false, false}, []bool{true, true, true, false}},
		{[]bool{true, true, false, false}, []bool{false, false, true, true}, []bool{false, false, true, true}},
		{nil, []bool{false, false}, []bool{false, false}},
	} {
		now := topo(tt.now...)
		now.keepLastUp(topo(tt.last...))
		for i, h := range now.Services[0].Homes {
			if h.Up != tt.want[i] {
				t.Errorf("%v after %v: home %d is up: %v", tt.now, tt.last, i, h.Up)
			}
		}
	}
}
