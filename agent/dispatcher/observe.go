package dispatcher

import (
	"net/netip"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

// How a request was answered that was not handed off.
type How uint8

const (
	Proxied How = iota // this node copies between client and server
	Local              // by an application of this node
	Refused            // by this node, with an error
)

// A Request is one that was not handed off: of those that were, the Controller
// hears.
type Request struct {
	At                 time.Time
	Client, Local, VIP netip.AddrPort
	Service            string
	Head               *httphead.Head // its Method is empty if it was not understood
	How                How
	Server             string // who answers; empty: Refused
	Status             int    // of a refusal; else 0
	Attempts           int    // hand-offs that were begun
}

// tell tells of the request that it will not be handed off.
func (s *session) tell(how How, server string, status int) {
	if s.d.o.Observe == nil || s.onward != nil {
		return
	}
	s.d.o.Observe(Request{
		At: time.Now(), Client: s.client, Local: s.local, VIP: s.service.vip, Service: s.service.Name, Head: &s.head,
		How: how, Server: server, Status: status, Attempts: len(s.tried),
	})
}
