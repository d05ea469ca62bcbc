package shuntv1

import (
	"fmt"
	"net/netip"
)

// EndpointOf returns the message for an address and port. IPv4-mapped IPv6
// addresses become IPv4.
func EndpointOf(ap netip.AddrPort) *Endpoint {
	return &Endpoint{Address: ap.Addr().Unmap().AsSlice(), Port: uint32(ap.Port())}
}

// AddrPort returns the address and port, or an error that says what is wrong
// with them. A missing message is an error.
func (e *Endpoint) AddrPort() (netip.AddrPort, error) {
	if e == nil {
		return netip.AddrPort{}, fmt.Errorf("endpoint is missing")
	}
	a, ok := netip.AddrFromSlice(e.Address)
	if !ok {
		return netip.AddrPort{}, fmt.Errorf("endpoint has an address of %d octets, want 4 or 16", len(e.Address))
	}
	if e.Port == 0 || e.Port > 65535 {
		return netip.AddrPort{}, fmt.Errorf("endpoint has port %d, want 1 to 65535", e.Port)
	}
	return netip.AddrPortFrom(a.Unmap(), uint16(e.Port)), nil
}

// SessionOf returns the message for a session's two ends.
func SessionOf(client, local netip.AddrPort) *Session {
	return &Session{Client: EndpointOf(client), Local: EndpointOf(local)}
}

// Ends returns the client's and the local end of a session, both of one family.
func (s *Session) Ends() (client, local netip.AddrPort, err error) {
	if s == nil {
		return client, local, fmt.Errorf("session is missing")
	}
	if client, err = s.Client.AddrPort(); err != nil {
		return client, local, fmt.Errorf("session's client: %w", err)
	}
	if local, err = s.Local.AddrPort(); err != nil {
		return client, local, fmt.Errorf("session's local end: %w", err)
	}
	if client.Addr().Is4() != local.Addr().Is4() {
		return client, local, fmt.Errorf("session mixes families: %v and %v", client, local)
	}
	return client, local, nil
}
