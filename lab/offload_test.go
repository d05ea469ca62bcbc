package lab

import (
	"bytes"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// With userspace TSO, checksums are filled in by whoever comes last: headers
// rewritten in the switch, conntrack, and offloads that the receiver lacks must
// all agree on who that is.
func TestOpenVSwitchRewritesHeadersUnderOffloads(t *testing.T) {
	testnet.NeedProgram(t, "ovs-vswitchd", "ovs-ofctl", "ip", "ethtool")
	l := bare(t, Options{Switch: SwitchOVS, IPv6: true, Servers: 1})
	if err := l.startOVS(t.Context()); err != nil {
		t.Fatal(err)
	}
	client, err := l.st.host("client1")
	if err != nil {
		t.Fatal(err)
	}
	server, err := l.st.host("server1")
	if err != nil {
		t.Fatal(err)
	}
	var flows bytes.Buffer
	for i, family := range []string{"ip", "ipv6"} {
		vip, address := l.st.Service.VIPs()[i], server.Addresses[i]
		gateway := segmentOf(RoleClient).v4.Addr()
		dst, src := "ip_dst", "ip_src"
		if family == "ipv6" {
			gateway, dst, src = segmentOf(RoleClient).v6.Addr(), "ipv6_dst", "ipv6_src"
		}
		tcp := map[string]string{"ip": "tcp", "ipv6": "tcp6"}[family]
		match := map[string][2]string{"ip": {"nw_dst", "nw_src"}, "ipv6": {"ipv6_dst", "ipv6_src"}}[family]
		fmt.Fprintf(&flows, "table=0,in_port=client1,%s,%s=%s actions=ct(commit,zone=5,table=1)\n", tcp, match[0], vip)
		fmt.Fprintf(&flows, "table=1,%s,%s=%s actions=set_field:%s->eth_dst,set_field:%s->%s,dec_ttl,output:server1\n", tcp, match[0], vip, server.MAC, address, dst)
		fmt.Fprintf(&flows, "table=0,in_port=server1,%s,%s=%s actions=set_field:%s->%s,set_field:%s->eth_dst,dec_ttl,ct(zone=5,table=2)\n", tcp, match[1], address, vip, src, client.MAC)
		fmt.Fprintf(&flows, "table=2,%s actions=output:client1\n", tcp)
		// Nobody answers for the gateways here.
		for host, gw := range map[string]string{"client1": gateway.String(), "server1": map[string]string{"ip": "10.10.2.1", "ipv6": "fd10:2::1"}[family]} {
			if _, err := l.Exec(t.Context(), host, "ip", "neigh", "add", gw, "lladdr", clientSegment.mac.String(), "dev", DataLink); err != nil {
				t.Fatal(err)
			}
		}
	}
	add := exec.CommandContext(t.Context(), "ovs-ofctl", "add-flows", l.Info().Switch.OpenFlow, "-")
	add.Stdin = &flows
	if out, err := add.CombinedOutput(); err != nil {
		t.Fatalf("add flows: %v: %s", err, out)
	}
	serve(t, l, "server1", ":80")
	check := func(t *testing.T, sizes ...int64) {
		t.Helper()
		for _, vip := range []string{"10.10.0.80", "[fd10::80]"} {
			for _, size := range sizes {
				d := download(t, l.Client("client1"), "http://"+vip, size)
				t.Logf("%s %d octets in %v: %.0f Mbit/s", vip, size, d, float64(size)*8/d.Seconds()/1e6)
			}
		}
	}
	t.Run("all offloads", func(t *testing.T) { check(t, 0, 1, 100, 1448, 1449, 70_000, 100<<20) })
	for _, off := range []struct{ host, feature string }{{"client1", "rx"}, {"server1", "tso"}, {"server1", "gso"}, {"server1", "tx"}} {
		if _, err := l.Exec(t.Context(), off.host, "ethtool", "-K", DataLink, off.feature, "off"); err != nil {
			t.Fatal(err)
		}
		t.Run("without "+off.feature+" on "+off.host, func(t *testing.T) { check(t, 0, 100, 1449, 1<<20) })
	}
	noBadChecksums(t, l)
}

// noBadChecksums fails the test if a host has received any.
func noBadChecksums(t *testing.T, l *Lab) {
	t.Helper()
	for _, host := range []string{"client1", "server1"} {
		var text []byte
		if err := l.Do(host, func() (err error) {
			text, err = os.ReadFile("/proc/thread-self/net/snmp")
			return err
		}); err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(text), "\n")
		for i := 0; i+1 < len(lines); i += 2 {
			names, values := strings.Fields(lines[i]), strings.Fields(lines[i+1])
			for j, name := range names {
				if name == "InCsumErrors" && values[j] != "0" {
					t.Errorf("%s: %s %s packets with wrong checksums", host, values[j], names[0])
				}
			}
		}
	}
}
