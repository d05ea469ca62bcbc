package lab

import (
	"errors"
	"fmt"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"strconv"
	"strings"
	"time"
)

// Options describe a lab. The zero value is the smallest complete one.
type Options struct {
	// Name tells labs on a machine apart: at most 20 of a-z, 0-9 and dashes.
	// Empty: DefaultName.
	Name string `json:"name"`
	// Switch is SwitchSim or SwitchOVS. Empty: SwitchSim.
	Switch string `json:"switch"`
	// Steering is auto, flows or conntrack. Empty: auto.
	Steering string `json:"steering"`
	// Clients, Dispatchers and Servers are numbers of hosts, at most 80 each.
	// Zero: 1, 1 and 3.
	Clients     int `json:"clients"`
	Dispatchers int `json:"dispatchers"`
	Servers     int `json:"servers"`
	// IPv6 gives hosts and the service IPv6 addresses beside IPv4.
	IPv6 bool `json:"ipv6"`
	// NICRate limits what a client, a dispatcher or a server sends and what it
	// receives, in bits per second. Zero: no limit.
	NICRate uint64 `json:"nic_rate"`
	// App and Attach are those of the Application of FirstService.
	App    string `json:"app"`
	Attach string `json:"attach"`
	// Applications are further ones, which every server runs beside the first,
	// each for a service of its own: the second on port 81 of the same virtual
	// IPs, the third on port 82, and so on.
	Applications []Application `json:"applications,omitempty"`
	// Forwarded is the relays': x-forwarded-for or forwarded. Empty: none.
	Forwarded string `json:"forwarded,omitempty"`
	// Preload is the path of libshunt.so. Empty: beside Binary, or else
	// preload/libshunt.so in the working directory.
	Preload string `json:"preload,omitempty"`
	// SteerAfter is the service's steer_after. Nil: the controller's default.
	SteerAfter *time.Duration `json:"steer_after,omitempty"`
	// TLS makes a certificate authority and mutual TLS between the daemons.
	TLS bool `json:"tls"`
	// Binary is the path of the program shunt. Empty: the calling program.
	Binary string `json:"binary"`
	// ReadyTimeout limits how long Up waits for requests to succeed. Zero: 60 s.
	ReadyTimeout time.Duration `json:"ready_timeout"`
}

// Kinds of switches and of attachments.
const (
	SwitchSim = "sim"
	SwitchOVS = "ovs"

	AttachListener = "listener"
	AttachPreload  = "preload"
	AttachRelay    = "relay"
)

// DefaultName is the name of a lab that was given none.
const DefaultName = "lab"

const maxHosts = 80 // of a role: addresses are .11 and up, .101 and up

var validName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,19}$`)

// CheckName tells whether a lab can have the name.
func CheckName(name string) error {
	if !validName.MatchString(name) {
		return fmt.Errorf("lab name %q: use at most 20 of a-z, 0-9 and dashes, not a dash first", name)
	}
	return nil
}

// complete fills in defaults and reports everything that is wrong.
func (o Options) complete() (Options, error) {
	set := func(p *string, value string) {
		if *p == "" {
			*p = value
		}
	}
	set(&o.Name, DefaultName)
	set(&o.Switch, SwitchSim)
	set(&o.Steering, "auto")
	if o.ReadyTimeout == 0 {
		o.ReadyTimeout = time.Minute
	}
	errs := []error{
		CheckName(o.Name),
		oneOf("switch", o.Switch, SwitchSim, SwitchOVS),
		oneOf("steering", o.Steering, "auto", "flows", "conntrack"),
		o.completeApplications(),
	}
	for _, n := range []struct {
		what  string
		count *int
		usual int
	}{{"clients", &o.Clients, 1}, {"dispatchers", &o.Dispatchers, 1}, {"servers", &o.Servers, 3}} {
		if *n.count == 0 {
			*n.count = n.usual
		}
		if *n.count < 0 || *n.count > maxHosts {
			errs = append(errs, fmt.Errorf("%d %s: use 1 to %d", *n.count, n.what, maxHosts))
		}
	}
	if o.NICRate != 0 && (o.NICRate < minRate || o.NICRate > maxRate) {
		errs = append(errs, fmt.Errorf("NIC rate of %d bit/s: use 64kbit to 100gbit", o.NICRate))
	}
	if o.Binary == "" {
		self, err := os.Executable()
		if err != nil {
			errs = append(errs, fmt.Errorf("find the program shunt: %w", err))
		}
		o.Binary = self
	}
	if o.preloads() {
		var err error
		if o.Preload, err = findPreload(o); err != nil {
			errs = append(errs, err)
		}
	}
	return o, errors.Join(errs...)
}

// findPreload returns the absolute path of libshunt.so.
func findPreload(o Options) (string, error) {
	candidates := []string{o.Preload}
	if o.Preload == "" {
		candidates = []string{filepath.Join(filepath.Dir(o.Binary), "libshunt.so"), filepath.Join("preload", "libshunt.so")}
	}
	for _, c := range candidates {
		if _, err := os.Stat(c); err == nil {
			return filepath.Abs(c)
		}
	}
	return "", fmt.Errorf("no libshunt.so at %s: `make -C preload` builds it, --preload names another path", strings.Join(candidates, " or "))
}

func oneOf(what, value string, known ...string) error {
	for _, k := range known {
		if value == k {
			return nil
		}
	}
	return fmt.Errorf("%s %q: use %s", what, value, strings.Join(known, " or "))
}

const (
	minRate = 64e3
	maxRate = 100e9
)

// ParseRate reads a rate as tc(8) writes it, such as "200mbit": a number and
// bit, kbit, mbit or gbit, in powers of 1,000. It returns bits per second.
// Empty is 0: no limit.
func ParseRate(s string) (uint64, error) {
	if s == "" {
		return 0, nil
	}
	number, unit := s, 1.0
	for _, u := range []struct {
		suffix string
		bits   float64
	}{{"kbit", 1e3}, {"mbit", 1e6}, {"gbit", 1e9}, {"bit", 1}} {
		if rest, ok := strings.CutSuffix(strings.ToLower(s), u.suffix); ok {
			number, unit = rest, u.bits
			break
		}
	}
	f, err := strconv.ParseFloat(number, 64)
	if err != nil || number == s || math.IsNaN(f) || f*unit < minRate || f*unit > maxRate {
		return 0, fmt.Errorf("rate %q: use 64kbit to 100gbit, such as 200mbit", s)
	}
	return uint64(f * unit), nil
}
