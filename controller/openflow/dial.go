package openflow

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
)

// DefaultPort is OpenFlow's port.
const DefaultPort = "6653"

// Listen listens for switches that dial in, on "address:port" or "address"
// (port 6653). With a TLS configuration the switches have to use ssl:, else tcp:.
func Listen(addr string, tlsConfig *tls.Config) (net.Listener, error) {
	l, err := net.Listen("tcp", withPort(addr))
	if err != nil {
		return nil, fmt.Errorf("listen for OpenFlow switches on %s: %w", addr, err)
	}
	if tlsConfig != nil {
		l = tls.NewListener(l, tlsConfig)
	}
	return l, nil
}

// Dial connects to a switch that listens: "tcp:HOST[:PORT]", "ssl:HOST[:PORT]"
// (needs a TLS configuration) or "unix:PATH", as in Open vSwitch's targets. An
// IPv6 address with a port stands in brackets.
func Dial(ctx context.Context, target string, tlsConfig *tls.Config) (net.Conn, error) {
	kind, addr, _ := strings.Cut(target, ":")
	var nc net.Conn
	var err error
	switch {
	case addr == "":
		err = errors.New(`want "tcp:HOST:PORT", "ssl:HOST:PORT" or "unix:PATH"`)
	case kind == "unix":
		nc, err = new(net.Dialer).DialContext(ctx, "unix", addr)
	case kind == "tcp":
		nc, err = new(net.Dialer).DialContext(ctx, "tcp", withPort(addr))
	case kind == "ssl" && tlsConfig == nil:
		err = errors.New("ssl needs a certificate: configure TLS, or use tcp")
	case kind == "ssl":
		nc, err = (&tls.Dialer{Config: tlsConfig}).DialContext(ctx, "tcp", withPort(addr))
	default:
		err = fmt.Errorf(`unknown kind of target %q; want "tcp:HOST:PORT", "ssl:HOST:PORT" or "unix:PATH"`, kind)
	}
	if err != nil {
		return nil, fmt.Errorf("dial the OpenFlow switch %q: %w", target, err)
	}
	return nc, nil
}

func withPort(addr string) string {
	if _, _, err := net.SplitHostPort(addr); err == nil {
		return addr
	}
	return net.JoinHostPort(strings.Trim(addr, "[]"), DefaultPort)
}
