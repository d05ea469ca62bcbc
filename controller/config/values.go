package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// maxSocket bounds the path of the operators' socket, octets: sockaddr_un holds
// 108, and the socket is made in a directory beside it.
const maxSocket = 88

func parseUnix(s string) (string, error) {
	path, ok := strings.CutPrefix(s, "unix:")
	if !ok || !strings.HasPrefix(path, "/") || len(path) > maxSocket {
		return "", fmt.Errorf("is not a unix socket; write unix:/absolute/path of at most %d octets", maxSocket)
	}
	return path, nil
}

func parseConnect(s string) (string, error) {
	scheme, rest, _ := strings.Cut(s, ":")
	switch scheme {
	case "unix":
		if _, err := parseUnix(s); err == nil {
			return s, nil
		}
	case "tcp", "ssl":
		if host, _, _ := net.SplitHostPort(rest); host != "" {
			if _, err := conf.Listen(rest); err == nil {
				return s, nil
			}
		}
	}
	return "", fmt.Errorf("is not where a switch listens; write tcp:host:port, ssl:host:port or unix:/path")
}

func parseDPID(s string) (uint64, error) {
	d, err := strconv.ParseUint(strings.TrimPrefix(s, "0x"), 16, 64)
	if err != nil || d == 0 {
		return 0, fmt.Errorf("is not a datapath id; write up to 16 hexadecimal digits, not all zero")
	}
	return d, nil
}

func parseSteering(s string) (Steering, error) {
	switch m := Steering(s); m {
	case SteeringAuto, SteeringFlows, SteeringConntrack:
		return m, nil
	}
	return "", fmt.Errorf("is unknown; write auto, flows or conntrack")
}

func parseMAC(s string) (net.HardwareAddr, error) {
	mac, err := net.ParseMAC(s)
	if err != nil || len(mac) != 6 {
		return nil, fmt.Errorf("is not a MAC address; write six octets as 02:00:00:00:00:01")
	}
	if mac[0]&1 != 0 || [6]byte(mac) == [6]byte{} {
		return nil, fmt.Errorf("is not a unicast MAC address; write an even first octet, not all zero")
	}
	return mac, nil
}

func parseAddr(s string) (netip.Addr, error) {
	a, err := netip.ParseAddr(s)
	if err != nil || a.Zone() != "" {
		return a, fmt.Errorf("is not an IP address; write for example 10.10.0.80 or fd10::80")
	}
	return a, unicast(a)
}

// unicast refuses addresses that no packet of a session can carry.
func unicast(a netip.Addr) error {
	switch {
	case a.Is4In6():
		return fmt.Errorf("is an IPv4 address written as IPv6; write %v", a.Unmap())
	case a.IsUnspecified(), a.IsMulticast(), a.IsLoopback(), a.IsLinkLocalUnicast(), a == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return fmt.Errorf("cannot be routed to; write a unicast address that is neither loopback nor link-local")
	}
	return nil
}

// parseGateway accepts an address with its prefix length.
func parseGateway(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		return p, fmt.Errorf("is not an address with a prefix length; write for example 10.10.1.1/24")
	}
	return p, unicast(p.Addr())
}

// parsePrefix accepts a prefix without host bits.
func parsePrefix(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil || p.Addr().Is4In6() {
		return p, fmt.Errorf("is not a prefix; write for example 172.31.0.0/24 or fd31::/120")
	}
	if p != p.Masked() {
		return p, fmt.Errorf("has bits beyond the prefix length; write %v", p.Masked())
	}
	return p, nil
}

func parsePool(s string) (netip.Prefix, error) {
	p, err := parsePrefix(s)
	if err != nil {
		return p, err
	}
	if err := unicast(p.Addr()); err != nil {
		return p, err
	}
	if p.Addr().BitLen()-p.Bits() < 2 {
		return p, fmt.Errorf("has no room; write a prefix of at most /%d", p.Addr().BitLen()-2)
	}
	return p, nil
}

func parseMaxHead(s string) (int, error) {
	v, err := strconv.Atoi(s)
	if err != nil || v < 1024 || v > 1<<20 {
		return 0, fmt.Errorf("is not a size that a request head can have; write 1024 to 1048576 octets")
	}
	return v, nil
}
