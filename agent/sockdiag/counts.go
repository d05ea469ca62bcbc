package sockdiag

import (
	"encoding/binary"
	"fmt"
	"net/netip"

	"github.com/mdlayher/netlink"
)

// Counts are the octets of a connection since its socket was made, sequence
// numbers of FINs included: tcpi_bytes_received and tcpi_bytes_acked of the
// kernel's struct tcp_info.
type Counts struct{ Received, Acked uint64 }

const (
	attrInfo      = 2   // INET_DIAG_INFO
	offsetExt     = 2   // of idiag_ext in struct inet_diag_req_v2
	offsetAcked   = 120 // of tcpi_bytes_acked in struct tcp_info
	offsetReceive = 128 // of tcpi_bytes_received
)

// CountsOf returns the counts of the connection with these ends and the cookie
// of its socket. The error is ErrNotFound (by errors.Is) if there is none.
func CountsOf(local, remote netip.AddrPort) (c Counts, cookie uint64, err error) {
	local, remote = unmap(local), unmap(remote)
	err = withConn(func(conn *netlink.Conn) error {
		req := request(familyOf(local), listed, local, remote, noCookie)
		req[offsetExt] = 1 << (attrInfo - 1)
		found, err := conn.Execute(netlink.Message{
			Header: netlink.Header{Type: byFamily, Flags: netlink.Request},
			Data:   req,
		})
		if err != nil {
			return explain(err)
		}
		for _, m := range found {
			if c, cookie, err = parseCounts(m.Data); err == nil {
				return nil
			}
		}
		return ErrNotFound
	})
	if err != nil {
		return Counts{}, 0, fmt.Errorf("count the octets from %s to %s: %w", local, remote, err)
	}
	return c, cookie, nil
}

// parseCounts reads the answer to a request for INET_DIAG_INFO.
func parseCounts(b []byte) (c Counts, cookie uint64, err error) {
	s, err := parse(b)
	if err != nil {
		return c, 0, err
	}
	attributes, err := netlink.UnmarshalAttributes(b[messageLen:])
	if err != nil {
		return c, 0, fmt.Errorf("%w: %w", errMessage, err)
	}
	for _, a := range attributes {
		if a.Type == attrInfo && len(a.Data) >= offsetReceive+8 && s.State != Listen {
			c.Acked = binary.NativeEndian.Uint64(a.Data[offsetAcked:])
			c.Received = binary.NativeEndian.Uint64(a.Data[offsetReceive:])
			return c, s.Cookie, nil
		}
	}
	return c, 0, fmt.Errorf("%w: it carries no tcp_info", errMessage)
}
