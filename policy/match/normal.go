package match

import "strings"

// normal returns the path in the normal form of RFC 3986, sections 6.2.2.2 and
// 6.2.2.3.
func normal(path string) string {
	if strings.IndexByte(path, '%') >= 0 {
		path = unreserved(path)
	}
	if strings.Contains(path, "/.") {
		path = withoutDots(path)
	}
	return path
}

// unreserved decodes the octets that need no percent-encoding, and puts the
// digits of the others in upper case.
func unreserved(path string) string {
	b := make([]byte, 0, len(path))
	for i := 0; i < len(path); i++ {
		if path[i] != '%' || i+2 >= len(path) {
			b = append(b, path[i])
			continue
		}
		hi, ok1 := hex(path[i+1])
		lo, ok2 := hex(path[i+2])
		c := hi<<4 | lo
		switch {
		case !ok1 || !ok2:
			b = append(b, '%')
			continue
		case 'a' <= c && c <= 'z' || 'A' <= c && c <= 'Z' || '0' <= c && c <= '9' || c == '-' || c == '.' || c == '_' || c == '~':
			b = append(b, c)
		default:
			b = append(b, '%', "0123456789ABCDEF"[hi], "0123456789ABCDEF"[lo])
		}
		i += 2
	}
	return string(b)
}

func hex(c byte) (byte, bool) {
	switch {
	case '0' <= c && c <= '9':
		return c - '0', true
	case 'a' <= c && c <= 'f':
		return c - 'a' + 10, true
	case 'A' <= c && c <= 'F':
		return c - 'A' + 10, true
	}
	return 0, false
}

// withoutDots removes "." and ".." segments; ".." at the root is dropped.
func withoutDots(path string) string {
	if path == "" || path[0] != '/' {
		return path
	}
	b := make([]byte, 0, len(path))
	for rest := path; rest != ""; {
		rest = rest[1:] // the slash
		end := strings.IndexByte(rest, '/')
		if end < 0 {
			end = len(rest)
		}
		segment := rest[:end]
		rest = rest[end:]
		switch segment {
		case ".", "..":
			if segment == ".." {
				for i := len(b) - 1; i >= 0; i-- {
					if b[i] == '/' {
						b = b[:i]
						break
					}
				}
			}
			if rest == "" {
				b = append(b, '/')
			}
		default:
			b = append(append(b, '/'), segment...)
		}
	}
	return string(b)
}
