package handoff

import (
	"net"
	"net/http"
	"sync/atomic"
	"syscall"

	"github.com/shunt-sdn/shunt/internal/httpframe"
)

// Serve is srv.Serve(l) for connections that move: if the policy names another
// server for a further request on a connection, the connection goes there
// before the request is read. The agent hears of answers that fail (status 500
// to 599), for a policy that leaves such servers out. The server may have a ConnState of its own; it must not serve yet.
func Serve(srv *http.Server, l *Listener) error {
	own := srv.ConnState
	srv.ConnState = func(c net.Conn, s http.ConnState) {
		ConnState(c, s)
		if own != nil {
			own(c, s)
		}
	}
	return srv.Serve(l)
}

// ConnState is what Serve installs: a hook for http.Server.ConnState, for a
// server with several listeners. Connections that are no *Conn do not concern it.
// Without it no connection moves and no answer counts, because nobody but the
// server knows when an answer is complete.
func ConnState(c net.Conn, s http.ConnState) {
	conn, ok := c.(*Conn)
	if !ok {
		return
	}
	switch r := conn.requests; {
	case s == http.StateNew && r == nil:
		conn.follow()
	case r == nil:
	case s == http.StateIdle:
		r.fresh.Store(true)
		r.answerWritten()
	case s == http.StateHijacked:
		r.fresh.Store(false)
		r.transparent.Store(true)
	}
}

// follow has Read keep to the bounds of requests.
func (c *Conn) follow() {
	raw, err := c.TCPConn.SyscallConn()
	if err != nil {
		return // it is closed
	}
	r := &requests{conn: c, raw: raw, place: boundary}
	r.try = r.attempt
	r.fresh.Store(true)
	c.requests = r
}

// requests is the reading side of a connection whose requests are told apart.
// net/http reads ahead: into a buffer of 4096 octets, and while a handler runs
// another one, to notice when the client leaves. Neither may get what belongs to
// a request that another server may have to answer. So octets are looked at
// in the socket's queue first (MSG_PEEK) where the end of the request may be
// among them, and taken up to it.
type requests struct {
	conn *Conn
	raw  syscall.RawConn

	place   place             // used by one goroutine at a time: net/http's reader, and its hook between reads
	served  bool              // a request was
	message httpframe.Message // the request that is read

	transparent atomic.Bool // everything is passed on
	gone        atomic.Bool // the connection moved
	fresh       atomic.Bool // what is written next begins an answer

	try  func(fd uintptr) bool // is attempt; made once
	peek peek                  // of attempt

	limit limit // of the wait for a head
}

// place is where a connection is between requests and answers.
type place uint8

const (
	boundary place = iota // the next request may begin
	inside                // a request, or before its first octet
	awaiting              // the answer
)

// answerWritten says that the answer is written and the connection goes on.
func (r *requests) answerWritten() {
	if r.place != awaiting {
		// The server sees an end where this package does not: from here on it is
		// on its own.
		r.transparent.Store(true)
		return
	}
	r.place, r.served = boundary, true
}
