// Package accesslog writes a line for each request that a dispatcher saw to its
// server, in the formats of web servers or as JSON. Requests are queued and
// written by one goroutine: when the disk is slower than the requests, lines are
// dropped and counted, and no request waits.
//
// A dispatcher does not see the answer of a request that it handed off, or that
// it copies as a proxy: status and octets are then "-" (null in JSON), and the
// server's own log has them. Of a connection it sees the first request; those
// that follow go to the server.
package accesslog
