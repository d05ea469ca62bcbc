package doctor_test

import (
	"context"
	"crypto/x509"
	"os/exec"
	"slices"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/doctor"
)

func contextOf(t *testing.T) context.Context { return context.WithoutCancel(t.Context()) }

// unkept are warnings that the machine of the tests may give in any case.
var unkept = []string{"clock", "nofile", "kernel-version"}

// wrong are the identifiers of the checks of a level, each once.
func wrong(r doctor.Report, level doctor.Level) []string {
	var out []string
	for _, f := range r {
		if f.Level == level && !slices.Contains(unkept, f.Check) && !slices.Contains(out, f.Check) {
			out = append(out, f.Check)
		}
	}
	slices.Sort(out)
	return out
}

// A breakage is one deliberately broken set-up.
type breakage struct {
	name string
	host string // whose doctor is asked
	// broken breaks the rig. It returns what mends it (nil: nothing), and the
	// doctor's arguments instead of the usual ones (nil: those).
	broken     func(r *rig) (mend func(), args []string)
	wrapper    []string
	fail, warn []string // the checks that name it, and no others
}

// command breaks and mends a host by commands.
func command(host, broken, mend string, args ...string) func(*rig) (func(), []string) {
	return func(r *rig) (func(), []string) {
		r.in(host, broken)
		return func() { r.in(host, mend) }, args
	}
}

const (
	dispatcher = "dispatcher1"
	server     = "server1"
)

var breakages = []breakage{
	{name: "the configuration has a mistake", host: dispatcher, fail: []string{"config"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--agent", r.edited(dispatcher, "interface:", "interfaces:")}
	}},
	{name: "the interface is another one", host: server, fail: []string{"interface"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--agent", r.edited(server, "interface: eth0", "interface: eth7")}
	}},
	{name: "the data interface is down", host: server, fail: []string{"application", "interface"},
		broken: command(server, "ip link set eth0 down; ip addr flush dev eth0", "ip addr add 10.10.2.101/24 dev eth0; ip link set eth0 up; ip route add default via 10.10.2.1")},
	{name: "segments do not fit", host: server, fail: []string{"mtu"}, broken: command(server, "ip link set eth0 mtu 1000", "ip link set eth0 mtu 1500")},
	{name: "a tunnel's MTU", host: server, warn: []string{"mtu"}, broken: command(server, "ip link set eth0 mtu 1450", "ip link set eth0 mtu 1500")},
	{name: "no default route", host: server, fail: []string{"default-route"}, broken: command(server, "ip route del default", "ip route add default via 10.10.2.1")},
	{name: "the default route misses the switch", host: server, fail: []string{"default-route"}, broken: command(server, "ip route replace default via 10.99.0.1", "ip route replace default via 10.10.2.1")},
	{name: "strict reverse path filter", host: server, fail: []string{"default-route", "rp-filter"},
		broken: command(server, "ip route replace default via 10.99.0.1; sysctl -qw net.ipv4.conf.eth0.rp_filter=1", "ip route replace default via 10.10.2.1; sysctl -qw net.ipv4.conf.eth0.rp_filter=0")},
	{name: "nobody is the gateway", host: server, fail: []string{"gateway"}, broken: command(server, "ip route replace default via 10.10.2.99", "ip route replace default via 10.10.2.1")},
	{name: "ECN is negotiated", host: dispatcher, warn: []string{"tcp-ecn"}, broken: command(dispatcher, "sysctl -qw net.ipv4.tcp_ecn=1", "sysctl -qw net.ipv4.tcp_ecn=0")},
	{name: "clients are reset", host: dispatcher, fail: []string{"tcp-abort-on-overflow"},
		broken: command(dispatcher, "sysctl -qw net.ipv4.tcp_abort_on_overflow=1", "sysctl -qw net.ipv4.tcp_abort_on_overflow=0")},
	{name: "a short queue", host: dispatcher, warn: []string{"somaxconn"}, broken: command(dispatcher, "sysctl -qw net.core.somaxconn=128", "sysctl -qw net.core.somaxconn=4096")},
	{name: "a capability is missing", host: server, fail: []string{"capabilities"}, wrapper: []string{"setpriv", "--bounding-set=-sys_admin", "--inh-caps=-sys_admin"}},
	{name: "the pool is somebody's network", host: server, fail: []string{"pool"},
		broken: command(server, "ip addr add 172.31.0.200/28 dev eth0", "ip addr del 172.31.0.200/28 dev eth0", "--agent", "FILE", "--pool", "172.31.0.0/24")},
	{name: "the certificate has expired", host: server, fail: []string{"certificate-expiry", "controller-tls"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--agent", r.certificate(server, func(c *x509.Certificate) {
			c.NotBefore, c.NotAfter = time.Now().Add(-48*time.Hour), time.Now().Add(-24*time.Hour)
		})}
	}},
	{name: "the certificate expires soon, and the authority is another", host: server, fail: []string{"controller-tls"}, warn: []string{"certificate-expiry"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--agent", r.certificate(server, func(c *x509.Certificate) { c.NotAfter = time.Now().Add(24 * time.Hour) })}
	}},
	{name: "the certificate is for another node", host: server, fail: []string{"certificate-name", "controller-tls"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--agent", r.certificate(server, func(c *x509.Certificate) { c.DNSNames = []string{"server9"} })}
	}},
	{name: "the certificate cannot be a client's", host: server, fail: []string{"certificate-chain", "controller-tls"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--agent", r.certificate(server, func(c *x509.Certificate) { c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth} })}
	}},
	{name: "the controller is elsewhere", host: server, fail: []string{"controller-reach"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--agent", r.edited(server, "10.99.0.1:6640", "10.99.0.1:6641")}
	}},
	{name: "no way to another agent", host: server, fail: []string{"peer-reach"}, broken: command(server, "ip route add blackhole 10.99.0.11", "ip route del blackhole 10.99.0.11")},
	{name: "the controller knows no such service", host: server, fail: []string{"service"}, broken: func(r *rig) (func(), []string) {
		return nil, []string{"--agent", r.edited(server, "service: web", "service: wep")}
	}},
	{name: "the application is not there", host: server, fail: []string{"application"}, broken: func(r *rig) (func(), []string) {
		r.kill(server, "app")
		return func() { r.start(server, "app") }, nil
	}},
	{name: "another program has the port", host: dispatcher, fail: []string{"listener-port"}, broken: func(r *rig) (func(), []string) {
		r.kill(dispatcher, "agent")
		end := r.listen(dispatcher, "0.0.0.0:80", false)
		return func() { end(); r.start(dispatcher, "agent") }, nil
	}},
	{name: "a listener speaks MPTCP", host: dispatcher, fail: []string{"listener-mptcp"}, broken: func(r *rig) (func(), []string) {
		r.kill(dispatcher, "agent")
		end := r.listen(dispatcher, "172.31.0.1:80", true)
		return func() { end(); r.start(dispatcher, "agent") }, nil
	}},
}

func TestBrokenHostsAreNamed(t *testing.T) {
	r := newRig(t)
	r.in(dispatcher, "sysctl -qw net.ipv4.tcp_ecn=0")
	for _, host := range []string{dispatcher, server} {
		report := r.examine(host, nil, "--agent", r.file(host))
		if report.Failed() || len(wrong(report, doctor.Warn)) > 0 {
			t.Fatalf("%s is healthy, but: %+v", host, report)
		}
	}
	for _, b := range breakages {
		t.Run(b.name, func(t *testing.T) {
			r := &rig{r.Lab, t, r.dir}
			var args []string
			if b.broken != nil {
				var mend func()
				mend, args = b.broken(r)
				if mend != nil {
					defer mend()
				}
			}
			if args == nil {
				args = []string{"--agent", "FILE"}
			}
			for i, a := range args {
				if a == "FILE" {
					args[i] = r.file(b.host)
				}
			}
			r.compare(r.examine(b.host, b.wrapper, args...), b.fail, b.warn)
		})
	}
}

// compare holds a report against the checks that should have failed or warned.
func (r *rig) compare(report doctor.Report, fail, warn []string) {
	r.t.Helper()
	for level, want := range map[doctor.Level][]string{doctor.Fail: fail, doctor.Warn: warn} {
		if diff := cmp.Diff(want, wrong(report, level)); diff != "" {
			r.t.Errorf("checks that say %s: want -, got +:\n%s\n%+v", level, diff, report)
		}
	}
	for _, f := range report {
		if f.Level == doctor.Fail && f.Text == "" {
			r.t.Errorf("%s fails without a text", f.Check)
		}
	}
}

func TestTheCommandLineIsChecked(t *testing.T) {
	for _, args := range [][]string{{"--agent"}, {"argument"}, {"-o", "xml", "--agent", "/absent"}, {"--agent", "/absent", "--pool", "ten"}, {"--wrong"}} {
		if got := status(exec.CommandContext(t.Context(), binary, append([]string{"doctor"}, args...)...).Run()); got != 2 {
			t.Errorf("doctor %v: exit status %d, want 2", args, got)
		}
	}
}
