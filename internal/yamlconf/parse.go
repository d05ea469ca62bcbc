package yamlconf

import (
	"fmt"
	"net"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Text takes any text.
func Text(s string) (string, error) { return s, nil }

// name is what nodes, services and interfaces may be called: short enough for
// logs and safe in file names and tables.
var name = regexp.MustCompile(`^[A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?$`)

// Name takes what a node, a service or an interface may be called.
func Name(s string) (string, error) {
	if !name.MatchString(s) {
		return "", fmt.Errorf("is not a name; write 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first and last")
	}
	return s, nil
}

// Bool takes true or false.
func Bool(s string) (bool, error) {
	switch s {
	case "true":
		return true, nil
	case "false":
		return false, nil
	}
	return false, fmt.Errorf("is neither true nor false; write one of the two")
}

// Listen takes host:port where the host is an IP address, a name or empty for
// all addresses.
func Listen(s string) (string, error) {
	host, port, err := net.SplitHostPort(s)
	if err != nil {
		return "", fmt.Errorf("is not host:port; write for example 10.99.0.1:6640")
	}
	if _, err := Port(port); err != nil {
		return "", fmt.Errorf("has the port %q; write 1 to 65535", port)
	}
	if strings.ContainsAny(host, "/ \t") {
		return "", fmt.Errorf("has the host %q; write an IP address or a name", host)
	}
	return s, nil
}

// Port takes a TCP port.
func Port(s string) (uint16, error) {
	p, err := strconv.ParseUint(s, 10, 16)
	if err != nil || p == 0 {
		return 0, fmt.Errorf("is not a TCP port; write 1 to 65535")
	}
	return uint16(p), nil
}

// Path takes an absolute path.
func Path(s string) (string, error) {
	if !strings.HasPrefix(s, "/") {
		return "", fmt.Errorf("is a relative path; write an absolute one")
	}
	return s, nil
}

// Between returns a parser of durations from low to high.
func Between(low, high time.Duration) func(string) (time.Duration, error) {
	return func(s string) (time.Duration, error) {
		d, err := time.ParseDuration(s)
		if err != nil {
			return 0, fmt.Errorf("is not a duration; write for example 500ms, 10s or 2m")
		}
		if d < low || d > high {
			return 0, fmt.Errorf("is out of range; write %v to %v", low, high)
		}
		return d, nil
	}
}
