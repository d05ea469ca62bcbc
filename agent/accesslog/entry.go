package accesslog

import (
	"net/netip"
	"time"
)

// Path says how a request got its answer.
type Path string

// Paths.
const (
	HandedOff Path = "handed_off" // its connection moved to the server
	Proxied   Path = "proxied"    // the dispatcher copies
	Local     Path = "local"      // an application of the dispatcher's node
	Refused   Path = "refused"    // the dispatcher answered with an error
	Failed    Path = "failed"     // the connection was lost in the hand-off
)

// An Entry is one request. Strings may hold any octets.
type Entry struct {
	Time     time.Time // when its head was complete
	Client   netip.AddrPort
	VIP      netip.AddrPort // invalid: not known
	Service  string
	Method   string // empty: the request was not understood
	Target   string
	Proto    string
	Host     string
	Referer  string
	Agent    string // User-Agent
	Server   string // the node chosen; empty: none
	Path     Path
	Status   int           // 0: not known here
	Octets   int64         // of the answer's body; negative: not known here
	Attempts int           // hand-offs that were begun
	Cost     time.Duration // from the complete head to the server's confirmation; 0: no hand-off
	Handoff  string        // the last hand-off's id
	Trace    string        // the trace's id
}
