package switchsim

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"path"
	"strings"
	"time"
)

// Config describes a switch. The zero value of each field is a sensible default,
// but a switch without ports or without any way to control it does nothing.
type Config struct {
	DatapathID uint64 // default 1

	// Ports are interfaces that are ports from the start. The first is port 1.
	Ports []string
	// PortPattern, as in path.Match, names interfaces that are ports while they
	// exist. "" means none.
	PortPattern string

	// Controllers are dialled until they answer, and again when they are lost:
	// "tcp:HOST:PORT" (default port 6653), "ssl:HOST:PORT", "unix:/PATH".
	Controllers []string
	// Listen are addresses where controllers and tools such as ovs-ofctl may
	// connect: "ptcp:[PORT][:HOST]", "pssl:[PORT][:HOST]", "punix:/PATH" or "unix:/PATH".
	Listen []string
	// TLS returns what to connect to "ssl:" controllers with, each time.
	TLS func() *tls.Config
	// ListenTLS is for "pssl:".
	ListenTLS *tls.Config

	Tables        int // 1 to 254, default 254
	TableCapacity int // flows per table; 0: no limit
	GroupCapacity int // groups; 0: no limit

	// MaxBackoff is the longest wait between attempts to reach a controller;
	// default 1 s.
	MaxBackoff time.Duration
	// ProbeInterval is how long a controller may be silent before it is asked for
	// an echo; it is lost after as long again. Default 5 s.
	ProbeInterval time.Duration

	Misbehaviour Misbehaviour

	// Enter runs a function on a thread inside the switch's network namespace.
	// nil: the switch is in the namespace of the process.
	Enter func(func() error) error

	Log *slog.Logger // nil: nothing is logged
}

// Misbehaviour says how the switch differs from a good one. The zero value is a
// good switch.
type Misbehaviour struct {
	InstallDelay time.Duration // flow and group mods take effect so much later, though barriers are answered at once
	StaleCache   time.Duration // packets of connections that were seen before keep their path for so long after a change, as Open vSwitch's do
	SlowBarrier  time.Duration // barriers are answered so much later; what follows them waits
	LateErrors   time.Duration // errors are sent so much later, after the replies that should follow them
	DropAfter    int           // a controller connection is closed after so many messages from it; 0: never
	NoNicira     bool          // pure OpenFlow 1.3: no connection tracker, TCP flags or moves
}

func (c Config) withDefaults() (Config, error) {
	if c.DatapathID == 0 {
		c.DatapathID = 1
	}
	if c.Tables == 0 {
		c.Tables = 254
	}
	if c.Tables < 1 || c.Tables > 254 {
		return c, fmt.Errorf("switchsim: %d flow tables: a switch has 1 to 254", c.Tables)
	}
	if c.MaxBackoff == 0 {
		c.MaxBackoff = time.Second
	}
	if c.ProbeInterval == 0 {
		c.ProbeInterval = 5 * time.Second
	}
	if c.Enter == nil {
		c.Enter = func(f func() error) error { return f() }
	}
	if c.Log == nil {
		c.Log = slog.New(slog.DiscardHandler)
	}
	if _, err := path.Match(c.PortPattern, "x"); err != nil {
		return c, fmt.Errorf("switchsim: port pattern %q: %w", c.PortPattern, err)
	}
	for _, t := range c.Controllers {
		e, err := parseEndpoint(t)
		if err != nil {
			return c, fmt.Errorf("switchsim: controller %w", err)
		}
		if e.tls && c.TLS == nil {
			return c, fmt.Errorf("switchsim: controller %q needs a certificate, a key and the authority's certificate", t)
		}
	}
	for _, t := range c.Listen {
		e, err := parseListen(t)
		if err != nil {
			return c, fmt.Errorf("switchsim: listen %w", err)
		}
		if e.tls && c.ListenTLS == nil {
			return c, fmt.Errorf("switchsim: listen %q needs a certificate, a key and the authority's certificate", t)
		}
	}
	return c, nil
}

// endpoint is where a connection goes to or comes from.
type endpoint struct {
	network, address string
	tls              bool
}

const defaultPort = "6653"

// parseEndpoint reads the notation of a controller to dial.
func parseEndpoint(s string) (endpoint, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "tcp", "ssl":
		if rest == "" {
			break
		}
		if !strings.Contains(rest, ":") || strings.HasSuffix(rest, "]") {
			rest += ":" + defaultPort
		}
		return endpoint{"tcp", rest, kind == "ssl"}, nil
	case "unix":
		if rest != "" {
			return endpoint{"unix", rest, false}, nil
		}
	}
	return endpoint{}, fmt.Errorf("%q: write tcp:HOST:PORT, ssl:HOST:PORT or unix:/PATH", s)
}

// parseListen reads the notation of an address to listen on.
func parseListen(s string) (endpoint, error) {
	kind, rest, _ := strings.Cut(s, ":")
	switch kind {
	case "ptcp", "pssl":
		port, host, _ := strings.Cut(rest, ":")
		if port == "" {
			port = defaultPort
		}
		if strings.Contains(host, ":") && !strings.HasPrefix(host, "[") {
			host = "[" + host + "]"
		}
		return endpoint{"tcp", host + ":" + port, kind == "pssl"}, nil
	case "punix", "unix":
		if rest != "" {
			return endpoint{"unix", rest, false}, nil
		}
	}
	return endpoint{}, fmt.Errorf("%q: write ptcp:[PORT][:HOST], pssl:[PORT][:HOST] or punix:/PATH", s)
}
