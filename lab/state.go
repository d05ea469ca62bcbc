package lab

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/shunt-sdn/shunt/lab/process"
)

// Dir holds the directories of the labs of this machine, by name.
const Dir = "/run/shunt/lab"

// state is what a lab's directory remembers: enough to find everything that
// belongs to the lab, and to start its daemons again.
type state struct {
	Options  Options   `json:"options"`
	Hosts    []Host    `json:"hosts"`
	Service  Service   `json:"service"`
	Steering string    `json:"steering"` // what the controller chose; empty until Up is done
	Daemons  []*daemon `json:"daemons"`
}

// A daemon is a process of the lab, running or not.
type daemon struct {
	Host    string     `json:"host"`
	Name    string     `json:"name"`
	Args    []string   `json:"args"`
	Env     []string   `json:"env,omitempty"` // beside the caller's
	Process process.ID `json:"process"`
}

// paths below a lab's directory. Unix sockets have to stay under 108 octets.
type paths string

func pathsOf(name string) paths { return paths(filepath.Join(Dir, name)) }

func (p paths) join(elem ...string) string {
	return filepath.Join(append([]string{string(p)}, elem...)...)
}

func (p paths) state() string             { return p.join("state.json") }
func (p paths) scratch() string           { return p.join("mnt") }
func (p paths) host(name string) string   { return p.join(name) }
func (p paths) operator() string          { return p.join("controller.sock") }
func (p paths) log(d *daemon) string      { return p.join("log", d.Host+"-"+d.Name+".log") }
func (p paths) config(host string) string { return p.join(host, "config.yaml") }
func (p paths) attachment(h, service string) string {
	return p.join(h, service+".sock")
}
func (p paths) tls(file string) string      { return p.join("tls", file) }
func (p paths) openvswitch() string         { return p.join("ovs") }
func (p paths) bridgeSocket() string        { return p.join("ovs", bridge+".mgmt") }
func (p paths) simSocket() string           { return p.join("sim.sock") }
func (p paths) remove() error               { return os.RemoveAll(string(p)) }
func (p paths) certificate(h string) string { return p.tls(h + ".crt") }
func (p paths) key(h string) string         { return p.tls(h + ".key") }
func (p paths) authority() string           { return p.tls("ca.crt") }

// makeDir makes a new lab's directory. It is what two labs of one name cannot
// both do.
func (p paths) makeDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return fmt.Errorf("make %s (needs root): %w", Dir, err)
	}
	err := os.Mkdir(string(p), 0o755)
	if errors.Is(err, fs.ErrExist) {
		name := filepath.Base(string(p))
		return fmt.Errorf("lab %q is up, or a crash left it: `shunt lab down --name %s` removes it: %w", name, name, fs.ErrExist)
	}
	if err != nil {
		return fmt.Errorf("make the lab's directory: %w", err)
	}
	for _, dir := range []string{"log", filepath.Base(p.scratch())} {
		if err := os.Mkdir(p.join(dir), 0o755); err != nil {
			return fmt.Errorf("make the lab's directory: %w", err)
		}
	}
	return nil
}

func (s *state) save(p paths) error {
	b, err := json.MarshalIndent(s, "", "  ")
	if err != nil {
		return fmt.Errorf("encode the lab's state: %w", err)
	}
	next := p.state() + ".new"
	if err := os.WriteFile(next, b, 0o644); err != nil {
		return fmt.Errorf("save the lab's state: %w", err)
	}
	if err := os.Rename(next, p.state()); err != nil {
		return fmt.Errorf("save the lab's state: %w", err)
	}
	return nil
}

func loadState(p paths) (*state, error) {
	b, err := os.ReadFile(p.state())
	if err != nil {
		return nil, err
	}
	var s state
	if err := json.Unmarshal(b, &s); err != nil {
		return nil, fmt.Errorf("decode %s: %w", p.state(), err)
	}
	return &s, nil
}

func (s *state) host(name string) (Host, error) {
	i := slices.IndexFunc(s.Hosts, func(h Host) bool { return h.Name == name })
	if i < 0 {
		var known []string
		for _, h := range s.Hosts {
			known = append(known, h.Name)
		}
		return Host{}, fmt.Errorf("lab %q has no host %q; it has %v", s.Options.Name, name, known)
	}
	return s.Hosts[i], nil
}

func (s *state) daemon(host, name string) (*daemon, error) {
	h, err := s.host(host)
	if err != nil {
		return nil, err
	}
	var known []string
	for _, d := range s.Daemons {
		if d.Host == h.Name && d.Name == name {
			return d, nil
		}
		if d.Host == h.Name {
			known = append(known, d.Name)
		}
	}
	return nil, fmt.Errorf("host %q has no daemon %q; it has %v", host, name, known)
}

func (s *state) withRole(r Role) []Host {
	var out []Host
	for _, h := range s.Hosts {
		if h.Role == r {
			out = append(out, h)
		}
	}
	return out
}

func (p paths) exists() bool {
	_, err := os.Lstat(string(p))
	return err == nil
}
