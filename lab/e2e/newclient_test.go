package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// The first answer to a client whose hardware address the switch does not know
// waits in the controller for it. It must be good then: were it lost, the client
// would wait for a second.
func TestANewClientConnectsWithoutARetransmission(t *testing.T) {
	testnet.NeedProgram(t, "curl")
	for _, o := range []lab.Options{
		{Servers: 1, IPv6: true},
		{Servers: 1, IPv6: true, Switch: lab.SwitchOVS, Steering: "flows"},
		{Servers: 1, IPv6: true, Switch: lab.SwitchOVS, Steering: "conntrack"},
	} {
		t.Run(fmt.Sprintf("%s %s", o.Switch, o.Steering), func(t *testing.T) {
			c := up(t, o)
			urls := c.urls("/whoami")
			for i, address := range []string{"10.10.1.200/24", "fd10:1::200/64"} {
				from, _, _ := strings.Cut(address, "/")
				c.exec("client1", "ip", "address", "add", address, "dev", "eth0", "nodad")
				sent, wrong := c.tcpCount("client1", "RetransSegs"), c.tcpCount("client1", "InCsumErrors")
				if got := c.exec("client1", "curl", "-sSg", "--interface", from, urls[i]); strings.TrimSpace(got) != "server1" {
					t.Errorf("%s from %s: %q", urls[i], from, got)
				}
				if n := c.tcpCount("client1", "RetransSegs") - sent; n != 0 {
					t.Errorf("%d segments from %s were sent again", n, from)
				}
				if n := c.tcpCount("client1", "InCsumErrors") - wrong; n != 0 {
					t.Errorf("%d segments to %s had a wrong checksum", n, from)
				}
			}
		})
	}
}

// tcpCount is one of the kernel's counters of a host's TCP, of both families.
func (c *cluster) tcpCount(host, name string) int {
	c.t.Helper()
	var names []string
	for line := range strings.Lines(c.exec(host, "cat", "/proc/net/snmp")) {
		fields := strings.Fields(line)
		if len(fields) == 0 || fields[0] != "Tcp:" {
			continue
		}
		if names == nil {
			names = fields
			continue
		}
		for i := range min(len(names), len(fields)) {
			if names[i] == name {
				n, err := strconv.Atoi(fields[i])
				if err != nil {
					c.t.Fatal(err)
				}
				return n
			}
		}
	}
	c.t.Fatalf("%s has no counter %s", host, name)
	return 0
}
