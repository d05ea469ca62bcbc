package registry

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"slices"
	"strconv"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// What an agent may say of itself at most.
const (
	maxAddresses    = 16
	maxApplications = 256
	maxVersion      = 128
)

// isName tells whether a node or a service may be called so, as in the
// configuration: 1 to 63 letters, digits, '.', '_' or '-', of which the first and
// the last are letters or digits. There are several in each record of a hand-off.
func isName(s string) bool {
	if len(s) == 0 || len(s) > 63 {
		return false
	}
	for i := range len(s) {
		switch c := s[i]; {
		case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		case (c == '.' || c == '_' || c == '-') && 0 < i && i < len(s)-1:
		default:
			return false
		}
	}
	return true
}

// ParseHello checks the form of an agent's Hello.
func ParseHello(m *shuntv1.Hello) (Hello, error) {
	if !isName(m.GetNode()) {
		return Hello{}, fmt.Errorf("node name %.80q: want 1 to 63 letters, digits, '.', '_' or '-'", m.GetNode())
	}
	h := Hello{Name: m.Node, MAC: m.Mac, Transfer: m.TransferEndpoint, Instance: m.Instance, Version: m.Version, Dispatcher: m.Dispatcher}
	var err error
	if h.Roles, err = parseRoles(m.Roles); err != nil {
		return h, err
	}
	if len(m.Mac) != 6 || m.Mac[0]&1 != 0 || [6]byte(m.Mac) == [6]byte{} {
		return h, fmt.Errorf("MAC address %v: want a unicast address of 6 octets", net.HardwareAddr(m.Mac[:min(len(m.Mac), 32)]))
	}
	if h.Addresses, err = parseAddresses(m.Addresses); err != nil {
		return h, err
	}
	if err := checkTransfer(m.TransferEndpoint); err != nil {
		return h, err
	}
	if len(m.Version) > maxVersion {
		return h, fmt.Errorf("version of %d octets, at most %d are taken", len(m.Version), maxVersion)
	}
	h.Applications, err = ParseApplications(m.Applications)
	return h, err
}

func parseRoles(roles []shuntv1.Role) ([]shuntv1.Role, error) {
	var out []shuntv1.Role
	for _, r := range roles {
		if r != shuntv1.Role_ROLE_DISPATCHER && r != shuntv1.Role_ROLE_SERVER {
			return nil, fmt.Errorf("role %v is unknown", r)
		}
		if !slices.Contains(out, r) {
			out = append(out, r)
		}
	}
	if len(out) == 0 {
		return nil, errors.New("no role: want dispatcher, server or both")
	}
	slices.Sort(out)
	return out, nil
}

func parseAddresses(list [][]byte) ([]netip.Addr, error) {
	if len(list) == 0 || len(list) > maxAddresses {
		return nil, fmt.Errorf("%d addresses of the data interface: want 1 to %d", len(list), maxAddresses)
	}
	var out []netip.Addr
	for _, b := range list {
		a, ok := netip.AddrFromSlice(b)
		if !ok {
			return nil, fmt.Errorf("address of %d octets: want 4 or 16", len(b))
		}
		if a = a.Unmap(); a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() {
			return nil, fmt.Errorf("address %v is nothing that a data interface can have", a)
		}
		if !slices.Contains(out, a) {
			out = append(out, a)
		}
	}
	return out, nil
}

func checkTransfer(endpoint string) error {
	host, port, err := net.SplitHostPort(endpoint)
	p, perr := strconv.ParseUint(port, 10, 16)
	if err != nil || perr != nil || p == 0 || host == "" || len(host) > 255 {
		return fmt.Errorf("transfer endpoint %.80q: want host:port", endpoint)
	}
	return nil
}

// ParseApplications checks the form of an agent's applications.
func ParseApplications(list []*shuntv1.Application) ([]Application, error) {
	if len(list) > maxApplications {
		return nil, fmt.Errorf("%d applications: at most %d are taken", len(list), maxApplications)
	}
	var out []Application
	for _, m := range list {
		if !isName(m.GetService()) {
			return nil, fmt.Errorf("application of the service %.80q: that is no name", m.GetService())
		}
		a := Application{Service: m.Service, Ready: m.Ready}
		if m.Direct != nil {
			var err error
			if a.Direct, err = m.Direct.AddrPort(); err != nil {
				return nil, fmt.Errorf("application of the service %s: %w", m.Service, err)
			}
		}
		out = append(out, a)
	}
	return out, nil
}
