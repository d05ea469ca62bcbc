// Package httpframe tells where the messages of an HTTP/1.x connection end,
// from the octets as they flow by. It is for those who pass octets on and must
// not change them: it keeps none, makes none, and a call costs no allocation.
//
// A Message follows one request or one response. Whatever slices its octets
// come in, Feed says how many of them are the message's; octets without a
// meaning for the framing, those of bodies, need not be shown to it at all:
// Plain says how many there are, and Skip that they went by.
//
// It is strict where RFC 9112 lets a recipient be lenient, because two readers
// that are lenient in different ways see different messages in the same octets
// (request smuggling): lines end in CRLF, no field is folded, no whitespace
// stands before a colon, a length is one number, and a Content-Length does not
// stand beside a Transfer-Encoding. What it accepts, net/http reads with the same
// ends; a fuzz test holds it to that. It looks at nothing that does not matter
// for the framing: targets, hosts and most fields are other people's business.
package httpframe
