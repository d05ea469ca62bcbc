package config

import (
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"strings"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

func parseRole(s string) (Role, error) {
	switch r := Role(s); r {
	case Dispatcher, Server:
		return r, nil
	}
	return "", fmt.Errorf("is unknown; write dispatcher or server")
}

func parseAttach(s string) (Attach, error) {
	switch a := Attach(s); a {
	case AttachListener, AttachPreload, AttachRelay:
		return a, nil
	}
	return "", fmt.Errorf("is unknown; write listener, preload or relay")
}

// parseForwarded takes what a relay can write.
func parseForwarded(s string) (string, error) {
	if s != "x-forwarded-for" && s != "forwarded" {
		return "", fmt.Errorf("is unknown; write x-forwarded-for or forwarded, or leave it out")
	}
	return s, nil
}

// parseInterface takes what Linux takes. Source: net/core/dev.c, dev_valid_name.
func parseInterface(s string) (string, error) {
	if len(s) > 15 || s == "." || s == ".." || strings.ContainsAny(s, "/: \t\n\v\f\r") {
		return "", fmt.Errorf("cannot be an interface's name; write one that ip link shows, for example eth0")
	}
	return s, nil
}

// parseEndpoint accepts host:port that can be connected to.
func parseEndpoint(s string) (string, error) {
	if _, err := conf.Listen(s); err != nil {
		return "", err
	}
	if everywhere(s) {
		return "", fmt.Errorf("names no host; write the address that others connect to")
	}
	return s, nil
}

// everywhere tells whether an address stands for all of a host's.
func everywhere(s string) bool {
	host, _, err := net.SplitHostPort(s)
	if err != nil {
		return false
	}
	a, err := netip.ParseAddr(host)
	return host == "" || err == nil && a.IsUnspecified()
}

// maxSocket is how long a socket's path may be, octets: sockaddr_un holds one
// more, which is zero.
const maxSocket = 107

func parseSocket(s string) (string, error) {
	if len(s) > maxSocket {
		return "", fmt.Errorf("is too long; write a path of at most %d octets", maxSocket)
	}
	return conf.Path(s)
}

// parseDirect accepts an address and port that dispatchers connect to.
func parseDirect(s string) (netip.AddrPort, error) {
	ap, err := netip.ParseAddrPort(s)
	if err != nil || ap.Addr().Zone() != "" {
		return ap, fmt.Errorf("is not address:port; write for example 10.10.2.101:80")
	}
	if ap.Port() == 0 || ap.Addr().IsUnspecified() || ap.Addr().IsMulticast() {
		return ap, fmt.Errorf("cannot be connected to; write an address of this node and a port from 1 to 65535")
	}
	return netip.AddrPortFrom(ap.Addr().Unmap(), ap.Port()), nil
}

// Limits of max_diverted: the guard takes no fewer, and a diversion takes about
// a hundred octets of the kernel's memory.
const (
	minDiverted = 1 << 10
	maxDiverted = 1 << 24
)

func parseMaxDiverted(s string) (int, error) {
	n, err := strconv.Atoi(s)
	if err != nil || n < minDiverted || n > maxDiverted {
		return 0, fmt.Errorf("is not how many diversions a guard can hold; write %d to %d", minDiverted, maxDiverted)
	}
	return n, nil
}
