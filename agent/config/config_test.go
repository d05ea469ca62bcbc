package config

import (
	"log/slog"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/agent/accesslog"
	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/metrics"
	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/internal/tracing"
	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

var byAddress = cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b })

func TestAFullFileIsReadAsWritten(t *testing.T) {
	got, err := Load("testdata/full.yaml")
	if err != nil {
		t.Fatal(err)
	}
	want := Config{
		Node: "server1", Roles: []Role{Dispatcher, Server}, Interface: "eth0",
		Controller: "controller.example:6640", Listen: "0.0.0.0:6641", Advertise: "[fd99::101]:6641",
		TLS:         tlsconf.Files{Cert: "/etc/shunt/cert.pem", Key: "/etc/shunt/key.pem", CA: "/etc/shunt/ca.pem"},
		MaxDiverted: 65536,
		Log:         logconf.Config{Level: slog.LevelWarn, Format: logconf.JSON, Levels: map[string]slog.Level{"dispatcher": slog.LevelDebug}},
		Metrics:     metrics.Config{Listen: "127.0.0.1:9641", PProf: true},
		Tracing:     tracing.Config{Endpoint: "collector.example:4317", Sample: 0.01},
		AccessLog:   accesslog.Config{Path: "/var/log/shunt/access.log", Format: accesslog.Combined},
		Applications: []Application{
			{Service: "web", Attach: AttachListener, Socket: "/run/shunt/web.sock", Direct: netip.MustParseAddrPort("10.10.2.101:80")},
			{Service: "files", Attach: AttachRelay, Connect: "127.0.0.1:8080", ProxyProtocol: true, Direct: netip.MustParseAddrPort("[fd10:2::101]:8080")},
			{Service: "mail", Attach: AttachRelay, Connect: "localhost:25", Forwarded: "x-forwarded-for", IdleTimeout: time.Hour},
			{Service: "static", Attach: AttachPreload, Socket: "/run/shunt/static.sock", Connect: "10.10.2.101:8081", Connect6: netip.MustParseAddrPort("[fd10:2::101]:8081")},
		},
	}
	if diff := cmp.Diff(want, got, byAddress); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	if !got.Has(Dispatcher) || !got.Has(Server) {
		t.Error("a role is missing")
	}
}

// small is the least that a server's file has to say; cases replace parts of it.
const small = `node: server1
roles: [server]
interface: eth0
controller: "10.99.0.1:6640"
listen: "10.99.0.101:6641"
insecure: true
applications:
- {service: web, attach: relay, connect: "127.0.0.1:8080"}
- {service: files, attach: listener, socket: /run/files.sock}
`

func TestOthersReachAnAgentWhereItListens(t *testing.T) {
	got, err := Parse("a.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	if got.Advertise != "10.99.0.101:6641" || !got.Insecure || got.MaxDiverted != 0 || got.Has(Dispatcher) {
		t.Errorf("got %+v", got)
	}
}

func TestADispatcherHasNoApplications(t *testing.T) {
	text, _, _ := strings.Cut(strings.Replace(small, "[server]", "[dispatcher]", 1), "applications")
	got, err := Parse("a.yaml", []byte(text))
	if err != nil || got.Has(Server) || len(got.Applications) != 0 {
		t.Errorf("got %+v, %v", got, err)
	}
}

// TestMistakesAreNamed is the catalogue of wrong files: what a part of small is
// replaced by, and the whole error.
func TestMistakesAreNamed(t *testing.T) {
	const (
		relay    = `{service: web, attach: relay, connect: "127.0.0.1:8080"}`
		listener = `{service: files, attach: listener, socket: /run/files.sock}`
	)
	for _, c := range []struct{ name, old, new, want string }{
		{"empty", small, "", `a.yaml: the file is empty; see docs/quickstart.md for one to start from`},
		{"not YAML", "[server]", "[server", `a.yaml:1:1: not YAML: did not find expected ',' or ']'; correct the YAML in this line or one next to it`},
		{"a list", small, "- a\n", `a.yaml:1:1: the configuration is not a mapping; write a mapping`},
		{"unknown field", "interface:", "interfaces:", `a.yaml:1:1: the configuration has no "interface"; name the data interface, for example eth0` + "\n" +
			`a.yaml:3:1: the configuration has an unknown field "interfaces"; did you mean "interface"?`},
		{"the controller's file", small, "pools: [172.31.0.0/24]\n", `a.yaml:1:1: the configuration has an unknown field "pools"; known are node, roles, interface, controller, listen, advertise, tls, insecure, applications, max_diverted, log, metrics, tracing, access_log` + "\n" +
			`a.yaml:1:1: the configuration has no "node"; name the node as the controller shall know it` + "\n" +
			`a.yaml:1:1: the configuration has no "roles"; write roles: [dispatcher], [server] or both` + "\n" +
			`a.yaml:1:1: the configuration has no "interface"; name the data interface, for example eth0` + "\n" +
			`a.yaml:1:1: the configuration has no "controller"; write host:port of the controller, its listen.grpc` + "\n" +
			`a.yaml:1:1: the configuration has no "listen"; write host:port for other agents`},
		{"twice", "interface: eth0", "interface: eth0\ninterface: eth1", `a.yaml:4:1: the configuration has "interface" twice, first in line 3; remove one`},

		{"node's name", "server1", "rack1/server1", `a.yaml:1:7: node "rack1/server1" is not a name; write 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first and last`},
		{"no name", "server1", `""`, `a.yaml:1:7: node is empty; write a value or remove the key`},
		{"no role", "[server]", "[]", `a.yaml:2:8: role is an empty list; write at least one or remove the key`},
		{"unknown role", "[server]", "[server, switch]", `a.yaml:2:17: role "switch" is unknown; write dispatcher or server`},
		{"role twice", "[server]", "[server, server]", `a.yaml:2:17: role "server" stands there twice, first in line 2; remove or rename one`},
		{"role is no list", "[server]", "server", `a.yaml:2:8: role is not a list; write a list`},
		{"interface", "eth0", "eth0:1", `a.yaml:3:12: interface "eth0:1" cannot be an interface's name; write one that ip link shows, for example eth0`},
		{"long interface", "eth0", "enp0s31f6-data-0", `a.yaml:3:12: interface "enp0s31f6-data-0" cannot be an interface's name; write one that ip link shows, for example eth0`},

		{"controller without port", "10.99.0.1:6640", "10.99.0.1", `a.yaml:4:13: controller "10.99.0.1" is not host:port; write for example 10.99.0.1:6640`},
		{"controller without host", "10.99.0.1:6640", ":6640", `a.yaml:4:13: controller ":6640" names no host; write the address that others connect to`},
		{"listen on port 0", "10.99.0.101:6641", "10.99.0.101:0", `a.yaml:5:9: listen "10.99.0.101:0" has the port "0"; write 1 to 65535`},
		{"listen everywhere", "10.99.0.101:6641", ":6641", `a.yaml:5:9: listen ":6641" names no host; write advertise: host:port too, by which other agents reach this one`},
		{"listen on all of IPv6", "10.99.0.101:6641", "[::]:6641", `a.yaml:5:9: listen "[::]:6641" names no host; write advertise: host:port too, by which other agents reach this one`},
		{"advertise everywhere", "insecure: true", "insecure: true\nadvertise: \"0.0.0.0:6641\"", `a.yaml:7:12: advertise "0.0.0.0:6641" names no host; write the address that others connect to`},

		{"no security", "insecure: true\n", "", `a.yaml:1:1: neither TLS nor its absence is configured; write tls: {cert, key, ca}, or insecure: true on a trusted network`},
		{"insecure: false", "insecure: true", "insecure: false", `a.yaml:1:1: neither TLS nor its absence is configured; write tls: {cert, key, ca}, or insecure: true on a trusted network`},
		{"both", "insecure: true", "insecure: true\ntls: {cert: /a, key: /b, ca: /c}", `a.yaml:6:11: both tls and insecure; keep one`},
		{"no certificate", "insecure: true", "tls: {key: /b, ca: /c}", `a.yaml:6:6: tls has no "cert"; name the PEM file of this node's certificate`},
		{"relative key", "insecure: true", "tls: {cert: /a, key: b, ca: /c}", `a.yaml:6:22: tls.key "b" is a relative path; write an absolute one`},
		{"max_diverted", "insecure: true", "insecure: true\nmax_diverted: 10", `a.yaml:7:15: max_diverted "10" is not how many diversions a guard can hold; write 1024 to 16777216`},

		{"access log of a server", "insecure: true", "insecure: true\naccess_log: {path: stdout}", `a.yaml:7:13: access_log, but the node is no dispatcher; remove it, or add the role dispatcher`},
		{"level of nothing", "insecure: true", "insecure: true\nlog: {levels: {guards: debug}}", `a.yaml:7:16: log.levels has an unknown field "guards"; did you mean "guard"?`},

		{"dispatcher with applications", "[server]", "[dispatcher]", `a.yaml:8:1: applications, but the node is no server; add the role server or remove them`},
		{"application without service", "service: web, ", "", `a.yaml:8:3: application has no "service"; name the service that it answers`},
		{"service twice", "files", "web", `a.yaml:9:13: service "web" stands there twice, first in line 8; remove or rename one`},
		{"unknown attachment", "relay", "pipe", `a.yaml:8:26: attach "pipe" is unknown; write listener, preload or relay`},
		{"no attachment", "attach: relay, ", "", `a.yaml:8:3: application has no "attach"; write listener for programs that use the package handoff, preload for servers that run with libshunt.so, or relay for any other`},
		{"relay to nothing", relay, "{service: web, attach: relay}", `a.yaml:8:3: application of web is attached by relay, but has nothing to connect to; write connect: host:port where it accepts connections`},
		{"relay without port", "127.0.0.1:8080", "127.0.0.1", `a.yaml:8:42: connect "127.0.0.1" is not host:port; write for example 10.99.0.1:6640`},
		{"unknown field for the client", relay, `{service: web, attach: relay, connect: "127.0.0.1:8080", forwarded: via}`, `a.yaml:8:71: forwarded "via" is unknown; write x-forwarded-for or forwarded, or leave it out`},
		{"listener that forwards", "socket: /run/files.sock", `socket: /run/files.sock, forwarded: forwarded`, `a.yaml:9:74: application of files is attached by listener, which changes no request; remove it: the application has the client's own connection`},
		{"listener with a limit", "socket: /run/files.sock", `socket: /run/files.sock, idle_timeout: 1m`, `a.yaml:9:77: application of files is attached by listener, which has no idle_timeout; remove it: the application has its own`},
		{"relay with a socket", `"127.0.0.1:8080"}`, `"127.0.0.1:8080", socket: /run/x}`, `a.yaml:8:68: application of web is attached by relay, which has no socket; remove it, or write attach: listener`},
		{"listener without socket", listener, "{service: files, attach: listener}", `a.yaml:9:3: application of files is attached by listener, but has no socket; write socket: /path where the program will connect`},
		{"listener that connects", "socket: /run/files.sock", `socket: /run/files.sock, connect: "127.0.0.1:1"`, `a.yaml:9:72: application of files is attached by listener, which connects to nothing; remove it, or write attach: relay`},
		{"listener with a header", "socket: /run/files.sock", `socket: /run/files.sock, proxy_protocol: true`, `a.yaml:9:79: application of files is attached by listener, which has no PROXY protocol; remove it: the program gets the client's own connection`},
		{"preload without socket", relay, `{service: web, attach: preload, connect: "127.0.0.1:80"}`, `a.yaml:8:3: application of web is attached by preload, but has no socket; write socket: /path as in the server's SHUNT_PRELOAD`},
		{"preload with a long socket", relay, `{service: web, attach: preload, connect: "127.0.0.1:80", socket: /` + strings.Repeat("x", 96) + `}`, `a.yaml:8:68: socket "/` + strings.Repeat("x", 96) + `" of a preloaded server is too long; write a path of at most 96 octets`},
		{"preload of nothing", relay, `{service: web, attach: preload, socket: /run/w}`, `a.yaml:8:3: application of web is attached by preload, but its server's listener is not named; write connect: address:port where the server listens on this node`},
		{"preload of a name", relay, `{service: web, attach: preload, connect: "web:80", socket: /run/w}`, `a.yaml:8:44: connect "web:80" is not address:port, as preload needs; write an address of this node, for example 10.10.2.101:80`},
		{"preload with two listeners of a family", relay, `{service: web, attach: preload, connect: "127.0.0.1:80", connect6: "127.0.0.2:80", socket: /run/w}`, `a.yaml:8:70: connect "127.0.0.1:80" and connect6 "127.0.0.2:80" are not one of each family; write the IPv4 listener as connect and the IPv6 listener as connect6`},
		{"preload with a header", relay, `{service: web, attach: preload, connect: "127.0.0.1:80", socket: /run/w, proxy_protocol: true}`, `a.yaml:8:92: application of web is attached by preload, which has no PROXY protocol; remove it: the server gets the client's own connection`},
		{"relay with a second listener", `"127.0.0.1:8080"}`, `"127.0.0.1:8080", connect6: "[::1]:80"}`, `a.yaml:8:70: application of web is attached by relay, which has no connect6; remove it, or write attach: preload`},
		{"relative socket", "/run/files.sock", "files.sock", `a.yaml:9:46: socket "files.sock" is a relative path; write an absolute one`},
		{"socket of two", relay, "{service: web, attach: listener, socket: /run/files.sock}", `a.yaml:9:46: socket "/run/files.sock" stands there twice, first in line 8; remove or rename one`},
		{"direct is a name", relay, `{service: web, attach: relay, connect: "127.0.0.1:8080", direct: "web:80"}`, `a.yaml:8:68: direct "web:80" is not address:port; write for example 10.10.2.101:80`},
		{"direct is anywhere", relay, `{service: web, attach: relay, connect: "127.0.0.1:8080", direct: "0.0.0.0:80"}`, `a.yaml:8:68: direct "0.0.0.0:80" cannot be connected to; write an address of this node and a port from 1 to 65535`},
	} {
		t.Run(c.name, func(t *testing.T) {
			text := strings.Replace(small, c.old, c.new, 1)
			if text == small {
				t.Fatal("the case changes nothing")
			}
			_, err := Parse("a.yaml", []byte(text))
			got := ""
			if err != nil {
				got = err.Error()
			}
			if got != c.want {
				t.Errorf("got\n\t%s\nwant\n\t%s\nof\n%s", got, c.want, text)
			}
		})
	}
}

func TestASocketsPathFitsItsAddress(t *testing.T) {
	at := func(n int) string { return "/" + strings.Repeat("x", n-1) }
	for n, want := range map[int]string{maxSocket: "", maxSocket + 1: "is too long; write a path of at most 107 octets"} {
		_, err := Parse("a.yaml", []byte(strings.Replace(small, "/run/files.sock", at(n), 1)))
		if (err == nil) != (want == "") || err != nil && !strings.HasSuffix(err.Error(), want) {
			t.Errorf("%d octets: %v, want %q", n, err, want)
		}
	}
}

func TestAnAbsentFileSaysHowToNameOne(t *testing.T) {
	if _, err := Load("/absent.yaml"); err == nil || !strings.Contains(err.Error(), "--config") {
		t.Errorf("got %v", err)
	}
}

func FuzzParse(f *testing.F) {
	full, err := os.ReadFile("testdata/full.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(full)
	f.Add([]byte(small))
	f.Add([]byte("a: &a [*a]\n<<: *a\n? {}\n: !!binary x\n"))
	f.Fuzz(func(t *testing.T, text []byte) {
		c, err := Parse("a.yaml", text)
		if es, ok := err.(conf.Errors); err != nil && (!ok || len(es) == 0 || len(es) > conf.MaxErrors) {
			t.Errorf("error %#v", err)
		}
		if err != nil {
			return
		}
		if c.Node == "" || len(c.Roles) == 0 || c.Interface == "" || c.Controller == "" || c.Listen == "" || c.Advertise == "" ||
			c.Insecure != (c.TLS == tlsconf.Files{}) || len(c.Applications) > 0 && !c.Has(Server) {
			t.Errorf("accepted %+v", c)
		}
	})
}
