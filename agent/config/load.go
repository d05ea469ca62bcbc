package config

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"os"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
)

// file is the file's shape.
type file struct {
	Node       string   `yaml:"node"`
	Roles      []string `yaml:"roles"`
	Interface  string   `yaml:"interface"`
	Controller string   `yaml:"controller"`
	Listen     string   `yaml:"listen"`
	Advertise  string   `yaml:"advertise"`
	Insecure   bool     `yaml:"insecure"`
	TLS        *struct {
		Cert string `yaml:"cert"`
		Key  string `yaml:"key"`
		CA   string `yaml:"ca"`
	} `yaml:"tls"`
	Applications []struct {
		Service       string `yaml:"service"`
		Attach        string `yaml:"attach"`
		Socket        string `yaml:"socket"`
		Connect       string `yaml:"connect"`
		ProxyProtocol bool   `yaml:"proxy_protocol"`
		Direct        string `yaml:"direct"`
	} `yaml:"applications"`
	MaxDiverted int `yaml:"max_diverted"`
}

// Load reads and checks a configuration file.
func Load(path string) (Config, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Config{}, fmt.Errorf("read the agent's configuration: %w", err)
	}
	c, err := Parse(text)
	if err != nil {
		return Config{}, fmt.Errorf("%s: %w", path, err)
	}
	return c, nil
}

// Parse checks the text of a configuration. The error joins every mistake.
func Parse(text []byte) (Config, error) {
	var f file
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&f); err != nil && !errors.Is(err, io.EOF) {
		return Config{}, err
	}
	c := Config{Node: f.Node, Interface: f.Interface, Controller: f.Controller, Listen: f.Listen,
		Advertise: or(f.Advertise, f.Listen), Insecure: f.Insecure, MaxDiverted: f.MaxDiverted}
	var errs []error
	wrong := func(format string, args ...any) { errs = append(errs, fmt.Errorf(format, args...)) }
	if f.Node == "" || strings.ContainsAny(f.Node, " \t\n/") {
		wrong("node: %q is not a name; name the node as the controller shall know it", f.Node)
	}
	for _, r := range f.Roles {
		switch role := Role(r); role {
		case Dispatcher, Server:
			c.Roles = append(c.Roles, role)
		default:
			wrong("roles: %q is not known; roles are dispatcher and server", r)
		}
	}
	if len(f.Roles) == 0 {
		wrong("roles: none is given; write roles: [dispatcher], [server] or both")
	}
	if f.Interface == "" {
		wrong("interface: name the data interface, for example eth0")
	}
	for _, e := range []struct{ key, value string }{{"controller", c.Controller}, {"listen", c.Listen}, {"advertise", c.Advertise}} {
		if err := endpoint(e.value); err != nil {
			wrong("%s: %w", e.key, err)
		}
	}
	switch {
	case f.TLS != nil && f.Insecure:
		wrong("tls and insecure exclude each other; remove one")
	case f.TLS == nil && !f.Insecure:
		wrong("name certificates under tls, or write insecure: true to talk in the clear")
	case f.TLS != nil:
		c.TLS = tlsconf.Files{Cert: f.TLS.Cert, Key: f.TLS.Key, CA: f.TLS.CA}
		if err := c.TLS.Check(); err != nil {
			errs = append(errs, err)
		}
	}
	if f.MaxDiverted < 0 {
		wrong("max_diverted: %d is negative", f.MaxDiverted)
	}
	seen := make(map[string]bool)
	for i, a := range f.Applications {
		app := Application{Service: a.Service, Attach: Attach(a.Attach), Socket: a.Socket, Connect: a.Connect, ProxyProtocol: a.ProxyProtocol}
		at := fmt.Sprintf("applications: number %d", i+1)
		if a.Service == "" || seen[a.Service] {
			wrong("%s: service %q is empty or was named before", at, a.Service)
		}
		seen[a.Service] = true
		switch app.Attach {
		case AttachListener:
			if a.Socket == "" || a.Connect != "" {
				wrong("%s: attach: listener needs a socket, and no connect", at)
			}
		case AttachRelay:
			if a.Socket != "" {
				wrong("%s: attach: relay needs no socket", at)
			}
			if err := endpoint(a.Connect); err != nil {
				wrong("%s: connect: %w", at, err)
			}
		default:
			wrong("%s: attach: %q is not known; it is listener or relay", at, a.Attach)
		}
		if a.Direct != "" {
			var err error
			if app.Direct, err = netip.ParseAddrPort(a.Direct); err != nil {
				wrong("%s: direct: %w; write address:port, for example 10.0.0.5:80", at, err)
			}
		}
		c.Applications = append(c.Applications, app)
	}
	if len(c.Applications) > 0 && !c.Has(Server) {
		wrong("applications: only a node with the role server has them")
	}
	return c, errors.Join(errs...)
}

func endpoint(s string) error {
	host, port, err := net.SplitHostPort(s)
	if err != nil || host == "" || port == "" {
		return fmt.Errorf("%q is not host:port", s)
	}
	return nil
}

func or(s, standard string) string {
	if s == "" {
		return standard
	}
	return s
}
