package config

import "net/netip"

// maxPreloadSocket is how long a preloaded server's socket path may be, octets:
// the library puts names beside it. Source: preload/src/preload.h.
const maxPreloadSocket = 96

// checkPreload holds what an application says against its attachment by preload.
func (r *reader) checkPreload(a *applicationDoc) {
	service := a.service.V
	switch {
	case a.socket.N == nil:
		r.Errorf(a.n, "write socket: /path as in the server's SHUNT_PRELOAD", "application of %s is attached by preload, but has no socket", service)
	case len(a.socket.V) > maxPreloadSocket:
		r.Errorf(a.socket.N, "write a path of at most 96 octets", "socket %q of a preloaded server is too long", a.socket.V)
	}
	if a.proxyProtocol.V {
		r.Errorf(a.proxyProtocol.N, "remove it: the server gets the client's own connection", "application of %s is attached by preload, which has no PROXY protocol", service)
	}
	if a.connect.N == nil {
		r.Errorf(a.n, "write connect: address:port where the server listens on this node", "application of %s is attached by preload, but its server's listener is not named", service)
		return
	}
	connect, err := netip.ParseAddrPort(a.connect.V)
	if err != nil || connect.Addr().Zone() != "" || connect.Addr().IsMulticast() {
		r.Errorf(a.connect.N, "write an address of this node, for example 10.10.2.101:80", "connect %q is not address:port, as preload needs", a.connect.V)
		return
	}
	if a.connect6.N != nil && (!a.connect6.V.Addr().Is6() || connect.Addr().Unmap().Is6()) {
		r.Errorf(a.connect6.N, "write the IPv4 listener as connect and the IPv6 listener as connect6", "connect %q and connect6 %q are not one of each family", a.connect.V, a.connect6.V)
	}
}
