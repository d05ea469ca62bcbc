package lab

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"sync"

	"github.com/shunt-sdn/shunt/lab/netns"
)

// A Lab is a cluster on this machine. Its methods may be called concurrently.
type Lab struct {
	paths    paths
	children sync.WaitGroup // reapers of the daemons that this program started

	mu sync.Mutex // guards st
	st *state
}

// ErrNoLab is what Load returns for a name that no lab has.
var ErrNoLab = errors.New("no such lab")

// Load finds a lab that is up.
func Load(name string) (*Lab, error) {
	if err := CheckName(name); err != nil {
		return nil, err
	}
	p := pathsOf(name)
	st, err := loadState(p)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("%w: %q; `shunt lab up --name %s` makes it", ErrNoLab, name, name)
	}
	if err != nil {
		return nil, err
	}
	return &Lab{paths: p, st: st}, nil
}

// List returns the names of the labs of this machine, also of those that a
// crash has left half made.
func List() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Name returns the lab's name.
func (l *Lab) Name() string { return l.st.Options.Name } // never changes

// Options returns what the lab was made with, defaults filled in.
func (l *Lab) Options() Options { return l.st.Options } // never changes

// Service returns what clients connect to: FirstService.
func (l *Lab) Service() Service { return l.st.Service } // never changes

// Services returns all that clients can connect to, FirstService first.
func (l *Lab) Services() (all []Service) {
	for _, a := range applications(l.st.Options) { // never change
		all = append(all, a.service)
	}
	return all
}

// Do runs f on a thread inside a host's network namespace and waits for it.
// Sockets that f opens belong to the host for good; goroutines that f starts
// do not run in it.
func (l *Lab) Do(host string, f func() error) error {
	h, err := l.st.host(host)
	if err != nil {
		return err
	}
	return netns.Do(h.Netns, f)
}

// Counters reads the octets through a host's data interface.
func (l *Lab) Counters(host string) (netns.Counters, error) {
	h, err := l.st.host(host)
	if err != nil {
		return netns.Counters{}, err
	}
	s, err := netns.OpenStack(h.Netns)
	if err != nil {
		return netns.Counters{}, err
	}
	defer s.Close()
	return s.Counters(DataLink)
}
