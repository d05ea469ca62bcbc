package policy

import (
	"net/netip"

	"github.com/shunt-sdn/shunt/policy/balance"
)

// key hashes the attributes of a request; false: it has none of them.
func key(on []HashKey, r *Request) (uint64, bool) {
	h, some := balance.NewHash(), false
	for _, k := range on {
		s := ""
		switch k.Kind {
		case KeyClient:
			some = some || r.Client.IsValid()
			h = addAddr(h, r.Client)
			continue
		case KeyHeader:
			s = r.Field(k.Name)
		case KeyCookie:
			s = r.Cookie(k.Name)
		case KeyQuery:
			s = r.Parameter(k.Name)
		case KeyPath:
			s = r.Path
		case KeyHost:
			some = some || r.Host != ""
			h = h.AddLower(r.Host)
			continue
		case KeyURL:
			h = h.Add(r.Path)
			some = some || r.Path != ""
			s = r.Query
		}
		some = some || s != ""
		h = h.Add(s)
	}
	return h.Sum(), some
}

// addAddr takes in an address: the 4 octets of IPv4 or the 16 of IPv6.
func addAddr(h balance.Hash, a netip.Addr) balance.Hash {
	a = a.Unmap()
	if a.Is4() {
		b := a.As4()
		for _, c := range b {
			h = (h ^ balance.Hash(c)) * 0x100000001b3
		}
		return h
	}
	b := a.As16()
	for _, c := range b {
		h = (h ^ balance.Hash(c)) * 0x100000001b3
	}
	return h
}
