package match

import (
	"net/netip"
	"net/url"
	"strings"
)

// Fields are a request's header fields; *httphead.Head is one, http.Header another.
type Fields interface {
	// Get returns the first value of a field, by its name in any case; empty if
	// there is none.
	Get(name string) string
}

// Request is what is known of a request before it is dispatched.
type Request struct {
	// Method in the client's case.
	Method string
	// Host without port, in any case; empty if the client sent none.
	Host string
	// Path in its normal form, without the query.
	Path string
	// Query without '?'.
	Query string
	// Client is the client's address; the zero value is no client's.
	Client netip.Addr
	// ClientPort is only told to operators' programs.
	ClientPort uint16
	// ContentLength in octets; -1: the request does not say, or has no body.
	ContentLength int64
	// Header may be nil.
	Header Fields
}

// SetTarget sets Path and Query from a request target in any of the forms of
// RFC 9112, section 3.2. The path gets the normal form of RFC 3986, section
// 6.2.2: unreserved characters are decoded and dot segments removed, so that
// "/a/%2e%2e/b" is routed as the "/b" that servers take it for. Nothing else
// changes: "//" and "%2F" stay. Allocates only if there is something to do.
func (r *Request) SetTarget(target string) {
	if target != "" && target[0] != '/' {
		if _, after, ok := strings.Cut(target, "://"); ok {
			i := strings.IndexAny(after, "/?")
			if i < 0 {
				target = "/"
			} else if target = after[i:]; target[0] == '?' {
				r.Path, r.Query = "/", target[1:]
				return
			}
		}
	}
	path, query, _ := strings.Cut(target, "?")
	r.Path, r.Query = normal(path), query
}

// SetHost sets Host from an authority: "name", "name:port", "[address]:port".
func (r *Request) SetHost(authority string) {
	h := authority
	if strings.HasPrefix(h, "[") {
		if i := strings.IndexByte(h, ']'); i > 0 {
			h = h[1:i]
		}
	} else if i := strings.LastIndexByte(h, ':'); i >= 0 && strings.IndexByte(h, ':') == i {
		h = h[:i]
	}
	r.Host = strings.TrimSuffix(h, ".")
}

func (r *Request) header(name string) string {
	if r.Header == nil {
		return ""
	}
	return r.Header.Get(name)
}

// Field returns the first value of a header field; Host is the request's.
func (r *Request) Field(name string) string {
	if len(name) == len("host") && strings.EqualFold(name, "host") {
		return r.Host
	}
	return r.header(name)
}

// Cookie returns the first value of a cookie, without quotes around it; empty
// if there is none. Names are compared with their case (RFC 6265).
func (r *Request) Cookie(name string) string {
	for rest := r.header("Cookie"); rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, ";")
		n, v, _ := strings.Cut(strings.TrimLeft(pair, " \t"), "=")
		if n == name {
			v = strings.TrimRight(v, " \t")
			if len(v) > 1 && v[0] == '"' && v[len(v)-1] == '"' {
				v = v[1 : len(v)-1]
			}
			return v
		}
	}
	return ""
}

// Parameter returns the first value of a parameter of the query, decoded as a
// form; empty if there is none. One that cannot be decoded is as it was sent.
func (r *Request) Parameter(name string) string {
	for rest := r.Query; rest != ""; {
		var pair string
		pair, rest, _ = strings.Cut(rest, "&")
		n, v, _ := strings.Cut(pair, "=")
		if decoded(n) == name {
			return decoded(v)
		}
	}
	return ""
}

func decoded(s string) string {
	if strings.IndexByte(s, '%') < 0 && strings.IndexByte(s, '+') < 0 {
		return s
	}
	d, err := url.QueryUnescape(s)
	if err != nil {
		return s
	}
	return d
}
