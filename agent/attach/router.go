package attach

import (
	"context"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

// Router decides for each further request of a connection where it is answered.
// Where an attachment has none, everything stays. Its methods are safe for concurrent use.
type Router interface {
	// PerRequest reports whether requests of the service can go to different
	// servers at all; if not, no request needs to be looked at. It may change
	// at run time.
	PerRequest(service string) bool
	// Route names the node that shall answer the request; "" means here. It is
	// cheap and does no I/O.
	Route(m Meta, head *httphead.Head) (node string)
	// Move hands the connection over, at a boundary between requests: the next
	// request is in fd's receive queue, wholly unread, and every octet of the
	// answers before was written to fd. With nil the connection is there and fd
	// was closed; duplicates of it may be closed afterwards and must not be
	// used. With an error the connection goes on here: fd is still the caller's
	// and usable as before. The time that it takes is bounded, also by ctx.
	Move(ctx context.Context, fd int, m Meta, node string) error
}

// Leaver is a Router that sends idle connections away, as from a server that is
// drained. Its methods are safe for concurrent use.
type Leaver interface {
	Router
	// Leaves reports whether idle connections of the service shall leave. It is
	// cheap and may change at run time.
	Leaves(service string) bool
	// Leave hands over a connection that is idle: every octet of the answers before
	// was written to fd, and nothing of a next request was there just now. If
	// there is by then, it fails, so that the request is routed. All else is as with Move.
	Leave(ctx context.Context, fd int, m Meta) error
}

// leaver is the router, if it is a Leaver.
func leaver(r Router) Leaver {
	l, _ := r.(Leaver)
	return l
}
