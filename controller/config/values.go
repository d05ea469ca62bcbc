package config

import (
	"fmt"
	"net"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"time"

	"go.yaml.in/yaml/v3"
)

// at is a value and the place that it was read from.
type at[T any] struct {
	v T
	n *yaml.Node
}

// values strips the places. It returns nil for an empty list.
func values[T any](list []at[T]) []T {
	var out []T
	for _, e := range list {
		out = append(out, e.v)
	}
	return out
}

// scalar returns a field reader that stores what parse makes of the text.
// parse's error is "what; remedy".
func scalar[T any](r *reader, what string, into *at[T], parse func(string) (T, error)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		if v, ok := one(r, n, what, parse); ok {
			*into = v
		}
	}
}

// scalars is scalar for a list. An empty list is a mistake: leave the key out.
func scalars[T any](r *reader, what string, into *[]at[T], parse func(string) (T, error)) func(*yaml.Node) {
	return func(n *yaml.Node) {
		r.list(n, what, func(e *yaml.Node) {
			if v, ok := one(r, e, what, parse); ok {
				*into = append(*into, v)
			}
		})
		if n.Kind == yaml.SequenceNode && len(n.Content) == 0 {
			r.errorf(n, "write at least one or remove the key", "%s is an empty list", what)
		}
	}
}

func one[T any](r *reader, n *yaml.Node, what string, parse func(string) (T, error)) (at[T], bool) {
	s, ok := r.text(n, what)
	if !ok {
		return at[T]{}, false
	}
	v, err := parse(s)
	if err != nil {
		why, remedy, _ := strings.Cut(err.Error(), "; ")
		r.errorf(n, remedy, "%s %q %s", what, s, why)
		return at[T]{}, false
	}
	return at[T]{v, n}, true
}

func parseText(s string) (string, error) { return s, nil }

// nodeName is what agents, services and interfaces may be called: short enough
// for logs and safe in file names and tables.
var nodeName = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

func parseName(s string) (string, error) {
	if !nodeName.MatchString(s) {
		return "", fmt.Errorf("is not a name; write 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first and last")
	}
	return s, nil
}

func parseBool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("is neither true nor false; write one of the two")
}

// parseListen accepts host:port where the host is an IP address, a name or
// empty for all addresses.
func parseListen(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("is not host:port; write for example 10.99.0.1:6640")
	}
	if _, err := parsePort(port); err != nil {
		return "", fmt.Errorf("has the port %q; write 1 to 65535", port)
	}
	if strings.ContainsAny(host, "/ \t") {
		return "", fmt.Errorf("has the host %q; write an IP address or a name", host)
	}
	return s, nil
}

func parseUnix(s string) (string, error) {
	path, ok := strings.CutPrefix(s, "unix:")
	// sockaddr_un holds 108 octets; the socket is made in a directory beside it.
	if !ok || !strings.HasPrefix(path, "/") || len(path) > 88 {
		return "", fmt.Errorf("is not a unix socket; write unix:/absolute/path of at most 88 octets")
	}
	return path, nil
}

func parsePath(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("is a relative path; write an absolute one")
	}
	return s, nil
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
			if _, err := parseListen(rest); err == nil {
				return s, nil
			}
		}
	}
	return "", fmt.Errorf("is not where a switch listens; write tcp:host:port, ssl:host:port or unix:/path")
}

func parsePort(s string) (uint16, error) {
	p, err := strconv.ParseUint(s, 10, 16)
	if err != nil || p == 0 {
		return 0, fmt.Errorf("is not a TCP port; write 1 to 65535")
	}
	return uint16(p), nil
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

// between returns a parser of durations from low to high.
func between(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("is not a duration; write for example 500ms, 10s or 2m")
		}
		if d < low || d > high {
			return 0, fmt.Errorf("is out of range; write %v to %v", low, high)
		}
		return d, nil
	}
}

func parseMaxHead(s string) (int, error) {
	v, err := strconv.Atoi(s)
	if err != nil || v < 1024 || v > 1<<20 {
		return 0, fmt.Errorf("is not a size that a request head can have; write 1024 to 1048576 octets")
	}
	return v, nil
}
