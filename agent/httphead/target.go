package httphead

import "net/netip"

// checkTarget checks a request target against the forms of RFC 9112, section
// 3.2, and returns the authority in it as offsets, both 0 if it has none.
func checkTarget(method, target []byte) (from, to int, err *Error) {
	if !all(target, isTarget) {
		return 0, 0, bad("the request target has a character that it must not have; percent-encode it")
	}
	switch {
	case string(method) == "CONNECT":
		if !validAuthority(target, portRequired) {
			return 0, 0, bad("the target of CONNECT must be host:port")
		}
		return 0, len(target), nil
	case target[0] == '/':
		return 0, 0, checkPath(target)
	case len(target) == 1 && target[0] == '*':
		if string(method) != "OPTIONS" {
			return 0, 0, bad("the request target * goes with OPTIONS only")
		}
		return 0, 0, nil
	}
	return checkAbsolute(target)
}

// checkAbsolute checks the absolute-form with the schemes that a web server serves.
func checkAbsolute(target []byte) (from, to int, err *Error) {
	const plain, secure = "http://", "https://"
	switch {
	case len(target) > len(plain) && is(target[:4], "http") && string(target[4:7]) == "://":
		from = len(plain)
	case len(target) > len(secure) && is(target[:5], "https") && string(target[5:8]) == "://":
		from = len(secure)
	default:
		return 0, 0, bad("the request target is neither a path nor an http URL")
	}
	for to = from; to < len(target) && target[to] != '/' && target[to] != '?'; to++ {
	}
	if to == from || !validAuthority(target[from:to], portOptional) {
		return 0, 0, bad("the request target has no valid host")
	}
	return from, to, checkPath(target[to:])
}

// checkPath checks the percent-encoding of a path. That of a query is the
// application's business: many are sloppy, and nobody routes by it.
func checkPath(target []byte) *Error {
	for i, c := range target {
		if c == '?' {
			return nil
		}
		if c == '%' && (i+2 >= len(target) || octets[target[i+1]]&octets[target[i+2]]&isHex == 0) {
			return bad("the path has an invalid percent-encoding")
		}
	}
	return nil
}

type portRule bool

const (
	portOptional portRule = false
	portRequired portRule = true
)

// validAuthority checks host and port: RFC 9110, section 7.2, without
// percent-encoding, which no DNS name has, and without IPvFuture.
func validAuthority(a []byte, port portRule) bool {
	end := 0
	if len(a) > 0 && a[0] == '[' {
		for end < len(a) && a[end] != ']' {
			end++
		}
		if end == len(a) {
			return false
		}
		ip, err := netip.ParseAddr(string(a[1:end]))
		if err != nil || !ip.Is6() || ip.Zone() != "" {
			return false
		}
		end++
	} else {
		for end < len(a) && octets[a[end]]&isHost != 0 {
			end++
		}
		if end == 0 {
			return false
		}
	}
	if end == len(a) {
		return port == portOptional
	}
	return a[end] == ':' && validPort(a[end+1:], port)
}

func validPort(digits []byte, rule portRule) bool {
	n := 0
	for _, c := range digits {
		if c < '0' || c > '9' {
			return false
		}
		if n = n*10 + int(c-'0'); n > 65535 {
			return false
		}
	}
	return len(digits) > 0 || rule == portOptional
}
