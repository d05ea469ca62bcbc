// Package handoff lets a Go program answer requests on TCP connections that
// were accepted elsewhere: Listen returns a net.Listener whose connections were
// handed over, while they were live, by the Shunt agent of the node. They are
// ordinary TCP connections of this process. The request that made a
// dispatcher choose this program has not been read by anybody; the bytes go
// straight between the client and this process; and the connection outlives
// the agent.
//
// A program changes one line: where it had net.Listen it has
//
//	l, err := handoff.Listen(ctx, handoff.Options{Socket: "/run/shunt/web.sock"})
//
// The local address of such a connection is its session address, a private
// address behind the switch; what the client connected to is in Session.VIP.
//
// # Further requests
//
// A client may send more requests on its connection, and the policy may name
// another server for one of them. A program that serves by
//
//	err = handoff.Serve(srv, l) // instead of srv.Serve(l)
//
// lets such a connection go: before the request is read, and after the answer to
// the one before was written, it moves to the other server, and here it looks to
// the http.Server as if the client had closed it. When an operator takes the
// server out of service (shunt drain), connections on which no request is under
// way leave at once, in the same way. A program whose server has other listeners
// too sets ConnState as the server's hook. Without either, and after Hijack,
// connections stay.
//
// Served so, the program also tells the agent of answers with a status of 500 to
// 599, and of the first other one after them, for policies that leave such
// servers out. Answers that do not fail cost nothing, and nothing stands between
// the http.Server and its connection: sendfile, Flush and Hijack are what they are.
//
// A connection can come before its next request does (Session.Idle).
// To the http.Server it is a new one: ReadHeaderTimeout and ReadTimeout run from
// then on.
//
// # Life of a listener
//
// The agent and the program may start in either order, and either may be
// restarted or killed at any time: the listener connects again by itself.
// While no agent is there, Accept waits.
//
// Close takes no more sessions, and the agent tells dispatchers at once to
// choose another server. Sessions that it had already handed over when Close
// was called are not lost: Accept returns them, and then net.ErrClosed. Those
// that nobody accepts within five seconds of Close are reset.
//
// A program that shall end without dropping a request calls Drain, which closes
// the listener and waits until all these have their answers, before
// http.Server.Shutdown.
package handoff
