package lab

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestApplicationsAsTheyAreWritten(t *testing.T) {
	for _, c := range []struct {
		texts       []string
		app, attach string
		further     []Application
	}{
		{texts: nil},
		{texts: []string{"nginx"}, app: "nginx"},
		{texts: []string{"web=nginx:relay"}, app: "nginx", attach: "relay"},
		{texts: []string{"nginx:preload", "api=builtin", "old=mini_httpd:relay"}, app: "nginx", attach: "preload",
			further: []Application{{"api", "builtin", ""}, {"old", "mini_httpd", "relay"}}},
	} {
		var o Options
		if err := o.ParseApplications(c.texts); err != nil {
			t.Errorf("%q: %v", c.texts, err)
		}
		if o.App != c.app || o.Attach != c.attach || !cmp.Equal(o.Applications, c.further) {
			t.Errorf("%q: %q %q %v", c.texts, o.App, o.Attach, o.Applications)
		}
	}
	for want, texts := range map[string][]string{
		"api=builtin":          {"nginx", "builtin"},
		"web=nginx":            {"api=nginx"},
		"write APP":            {"nginx:"},
		"write APP, SERVICE":   {""},
		"such as api=nginx":    {"nginx", "api="},
		"attached by listener": {"builtin:relay"},
	} {
		o := Options{Attach: AttachListener}
		if err := o.ParseApplications(texts); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v, want an error with %q", texts, err, want)
		}
	}
}

func TestEveryMistakeInApplicationsIsReported(t *testing.T) {
	_, err := Options{Applications: []Application{
		{Service: "web"}, {Service: "A b"}, {Service: "api", App: "thttpd"}, {Service: "old", Attach: "preload"}, {Service: "s5"}, {Service: "s6"}, {Service: "s7"}, {Service: "s8"},
	}}.complete()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, word := range []string{`"web" has two`, `"A b"`, `service "api": app "thttpd"`, `service "old": attach "preload"`, "9 applications"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("no %s in %q", word, err)
		}
	}
}

// Each application has a port, a socket, files and a process of its own.
func TestApplicationsOfAServerShareNothing(t *testing.T) {
	lib := filepath.Join(t.TempDir(), "libshunt.so")
	if err := os.WriteFile(lib, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	o, err := Options{Name: "x", IPv6: true, Servers: 1, App: "nginx", Preload: lib, Forwarded: "forwarded", Applications: []Application{
		{Service: "api"}, {Service: "old", App: "mini_httpd", Attach: "relay"}, {Service: "next", Attach: "relay"},
	}}.complete()
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{paths: pathsOf("x"), st: &state{Options: o, Hosts: hosts(o), Service: service(o)}}
	h, err := l.st.host("server1")
	if err != nil {
		t.Fatal(err)
	}
	want := []object{
		{"service": "web", "attach": "preload", "direct": "10.10.2.101:80", "connect": "10.10.2.101:80", "connect6": "[fd10:2::101]:80", "socket": "/run/shunt/lab/x/server1/web.sock"},
		{"service": "api", "attach": "listener", "direct": "10.10.2.101:81", "socket": "/run/shunt/lab/x/server1/api.sock"},
		{"service": "old", "attach": "relay", "direct": "10.10.2.101:82", "connect": "10.10.2.101:82", "forwarded": "forwarded"},
		{"service": "next", "attach": "relay", "direct": "10.10.2.101:83", "connect": "127.0.0.1:8083", "forwarded": "forwarded"},
	}
	if d := cmp.Diff(want, l.agentConfig(h)["applications"]); d != "" {
		t.Error(d)
	}
	known := make(map[string]bool)
	for _, a := range applications(o) {
		log, err := l.AccessLogOf("server1", a.Service)
		if err != nil {
			t.Error(err)
		}
		for _, name := range []string{log, a.daemon(), a.named("server"), a.service.Name} {
			if known[name] {
				t.Errorf("two applications have %s", name)
			}
			known[name] = true
		}
	}
	if _, err := l.AccessLogOf("server1", "absent"); err == nil {
		t.Error("there is an access log of a service that there is not")
	}
}
