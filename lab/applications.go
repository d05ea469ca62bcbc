package lab

import (
	"errors"
	"fmt"
	"net/netip"
	"strconv"
	"strings"
)

// An Application is a program that every server of a lab runs, and the service
// that it answers.
type Application struct {
	// Service names it: at most 20 of a-z, 0-9 and dashes. The lab's first
	// service is called FirstService.
	Service string `json:"service"`
	// App is AppBuiltin or one of RealServers. Empty: AppBuiltin.
	App string `json:"app"`
	// Attach is AttachListener or AttachRelay for the built-in web server, and
	// AttachPreload or AttachRelay for a real one. Empty: the first of these.
	Attach string `json:"attach"`
}

// FirstService is the name of the service that every lab has.
const FirstService = "web"

// Limits and numbers of applications.
const (
	maxApplications = 8
	firstPort       = 80   // of services, and of the servers that answer them
	firstRelayPort  = 8080 // on 127.0.0.1
)

// ParseApplications reads applications, each as [SERVICE=]APP[:ATTACH], into the
// options. Only the first can do without a service's name: it answers
// FirstService.
func (o *Options) ParseApplications(texts []string) error {
	o.Applications = nil
	for i, text := range texts {
		service, rest, named := strings.Cut(text, "=")
		if !named {
			service, rest = FirstService, text
		}
		a := Application{Service: service}
		a.App, a.Attach, _ = strings.Cut(rest, ":")
		switch {
		case a.App == "" || strings.HasSuffix(rest, ":"):
			return fmt.Errorf("application %q: write APP, SERVICE=APP or SERVICE=APP:ATTACH, such as api=nginx:preload", text)
		case i > 0 && !named:
			return fmt.Errorf("application %q: it needs a service of its own; write for example api=%s", text, text)
		case i > 0:
			o.Applications = append(o.Applications, a)
			continue
		case service != FirstService:
			return fmt.Errorf("application %q: the first one answers the service %s; write %s, or %s=%s", text, FirstService, rest, FirstService, rest)
		case a.Attach != "" && o.Attach != "" && a.Attach != o.Attach:
			return fmt.Errorf("application %q: it is to be attached by %s, too; say it once", text, o.Attach)
		}
		o.App = a.App
		if a.Attach != "" {
			o.Attach = a.Attach
		}
	}
	return nil
}

// complete fills in defaults and reports what is wrong.
func (a *Application) complete() error {
	if a.App == "" {
		a.App = AppBuiltin
	}
	attachments := []string{AttachListener, AttachRelay}
	if a.App != AppBuiltin {
		attachments = []string{AttachPreload, AttachRelay}
	}
	if a.Attach == "" {
		a.Attach = attachments[0]
	}
	err := errors.Join(
		oneOf("app", a.App, append([]string{AppBuiltin}, RealServers()...)...),
		oneOf("attach", a.Attach, attachments...))
	if !validName.MatchString(a.Service) {
		err = errors.Join(fmt.Errorf("service %q: use at most 20 of a-z, 0-9 and dashes, not a dash first", a.Service), err)
	}
	if err != nil && a.Service != FirstService {
		return fmt.Errorf("application of service %q: %w", a.Service, err)
	}
	return err
}

// completeApplications completes the first one and the further ones.
func (o *Options) completeApplications() error {
	first := Application{FirstService, o.App, o.Attach}
	err := first.complete()
	o.App, o.Attach = first.App, first.Attach
	known := map[string]bool{FirstService: true}
	further := make([]Application, 0, len(o.Applications))
	for _, a := range o.Applications {
		err = errors.Join(err, a.complete())
		if known[a.Service] {
			err = errors.Join(err, fmt.Errorf("service %q has two applications: a server runs one for each", a.Service))
		}
		known[a.Service] = true
		further = append(further, a)
	}
	if len(further) >= maxApplications {
		err = errors.Join(err, fmt.Errorf("%d applications: use 1 to %d", 1+len(further), maxApplications))
	}
	if len(further) > 0 {
		o.Applications = further
	}
	return err
}

// preloads tells whether any application needs libshunt.so.
func (o Options) preloads() bool {
	for _, a := range applications(o) {
		if a.Attach == AttachPreload {
			return true
		}
	}
	return false
}

// An application is one with its place in a lab.
type application struct {
	Application
	service Service
	number  int // 0: the first
}

// applications lists all of them, the first one first.
func applications(o Options) []application {
	first := service(o)
	all := []application{{Application{FirstService, o.App, o.Attach}, first, 0}}
	for i, a := range o.Applications {
		s := first
		s.Name, s.Port = a.Service, first.Port+uint16(i)+1
		all = append(all, application{a, s, i + 1})
	}
	return all
}

// of finds the application of a service.
func (l *Lab) of(service string) (application, error) {
	for _, a := range applications(l.st.Options) {
		if a.Service == service {
			return a, nil
		}
	}
	return application{}, fmt.Errorf("lab %q has no service %q", l.Name(), service)
}

// named distinguishes what further applications have from what the first has.
func (a application) named(what string) string {
	if a.number == 0 {
		return what
	}
	return what + "-" + a.Service
}

// daemon is what its process is called on each server.
func (a application) daemon() string { return a.named("app") }

// relayTarget is where the built-in web server waits for relayed connections.
func (a application) relayTarget() string {
	return netip.AddrPortFrom(netip.AddrFrom4([4]byte{127, 0, 0, 1}), firstRelayPort+uint16(a.number)).String()
}

// direct lists where it accepts ordinary connections on a server.
func (a application) direct(h Host) []string {
	var out []string
	for _, addr := range h.Addresses {
		out = append(out, netip.AddrPortFrom(addr, a.service.Port).String())
	}
	return out
}

// config is what a server's agent is told of it.
func (a application) config(l *Lab, h Host) object {
	direct := a.direct(h)
	c := object{"service": a.Service, "attach": a.Attach, "direct": direct[0]}
	switch a.Attach {
	case AttachListener:
		c["socket"] = l.paths.attachment(h.Name, a.Service)
	case AttachPreload:
		c["socket"] = l.paths.attachment(h.Name, a.Service)
		c["connect"] = direct[0]
		if len(direct) > 1 {
			c["connect6"] = direct[1]
		}
	case AttachRelay:
		c["connect"] = a.relayTarget()
		if a.App != AppBuiltin {
			c["connect"] = direct[0]
		}
		if f := l.st.Options.Forwarded; f != "" {
			c["forwarded"] = f
		}
	}
	return c
}

// builtinArgs are the built-in web server's.
func (a application) builtinArgs(l *Lab, h Host) []string {
	args := []string{"lab", "app", "--name", h.Name}
	for _, d := range a.direct(h) {
		args = append(args, "--direct", d)
	}
	if a.Attach == AttachRelay {
		return append(args, "--direct", a.relayTarget())
	}
	return append(args, "--socket", l.paths.attachment(h.Name, a.Service))
}

// start starts it on a server.
func (a application) start(l *Lab, h Host) error {
	if a.App == AppBuiltin {
		return l.launch(h.Name, a.daemon(), a.builtinArgs(l, h)...)
	}
	d, err := l.serverDaemon(h, a)
	if err != nil {
		return err
	}
	l.st.Daemons = append(l.st.Daemons, d)
	return l.start(d)
}

// preloadEnv is the environment of a server that has libshunt.so loaded.
func (a application) preloadEnv(l *Lab, h Host) []string {
	return []string{"LD_PRELOAD=" + l.st.Options.Preload, "SHUNT_PRELOAD=" + strconv.Itoa(int(a.service.Port)) + "=" + l.paths.attachment(h.Name, a.Service)}
}
