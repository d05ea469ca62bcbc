// Package httphead finds and checks the head of an HTTP/1.x request in octets
// that were peeked from a socket and are still in its receive queue.
//
// The dispatcher must know where a request wants to go before it moves the
// connection, and the server that gets the connection must read exactly the
// octets that the client sent. So nothing here consumes, rewrites or repairs:
// a head is either what RFC 9110 and RFC 9112 allow, in which case every
// server reads it alike, or it is refused with the status to answer. What this
// package accepts, net/http.ReadRequest accepts with the same host and the
// same framing; a fuzz test holds it to that.
//
// Stricter than many servers, on purpose: lines end in CRLF only, no folded
// fields, no whitespace before a colon, no Content-Length beside a
// Transfer-Encoding, no fragment and no octet outside visible ASCII in a
// request target.
package httphead
