package lab

import (
	"context"
	"errors"
	"fmt"
	"runtime"
	"strconv"

	"github.com/shunt-sdn/shunt/lab/netns"
)

// Up makes a lab and returns when requests to the service succeed from every
// client, in every family, and are handed off. When it fails it removes what
// it made. The context bounds Up only; the lab lives on.
func Up(ctx context.Context, o Options) (*Lab, error) {
	o, err := o.complete()
	if err != nil {
		return nil, err
	}
	p := pathsOf(o.Name)
	if err := p.makeDir(); err != nil {
		return nil, err
	}
	l := &Lab{paths: p, st: &state{Options: o, Hosts: hosts(o), Service: service(o)}}
	if err := l.up(ctx); err != nil {
		// Whatever ended Up must not end the clean-up.
		return nil, errors.Join(err, l.Down(context.WithoutCancel(ctx)))
	}
	return l, nil
}

func (l *Lab) up(ctx context.Context) error {
	if err := l.st.save(l.paths); err != nil {
		return err
	}
	if err := buildNetwork(l.st); err != nil {
		return err
	}
	if l.st.Options.TLS {
		if err := l.certify(); err != nil {
			return err
		}
	}
	l.mu.Lock()
	err := l.startAll(ctx)
	l.mu.Unlock()
	if err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, l.st.Options.ReadyTimeout)
	defer cancel()
	steering, err := l.ready(ctx)
	if err != nil {
		return err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.st.Steering = steering
	return l.st.save(l.paths)
}

// startAll starts the switch, the controller, the agents and the applications,
// in an order of convenience: all of them wait for one another.
func (l *Lab) startAll(ctx context.Context) error {
	config, err := l.writeConfig(ControllerHost, l.controllerConfig())
	if err != nil {
		return err
	}
	if err := l.launch(ControllerHost, "controller", "controller", "--config", config); err != nil {
		return err
	}
	switch l.st.Options.Switch {
	case SwitchOVS:
		err = l.startOVS(ctx)
	case SwitchSim:
		err = l.startSim()
	}
	if err != nil {
		return err
	}
	for _, h := range l.st.Hosts {
		if h.Role != RoleDispatcher && h.Role != RoleServer {
			continue
		}
		config, err := l.writeConfig(h.Name, l.agentConfig(h))
		if err != nil {
			return err
		}
		if err := l.launch(h.Name, "agent", "agent", "--config", config); err != nil {
			return err
		}
		if h.Role == RoleServer {
			for _, a := range applications(l.st.Options) {
				if err := a.start(l, h); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

func (l *Lab) startSim() error {
	args := []string{"switchsim", "--dpid", strconv.Itoa(datapathID), "--controller", l.openflowTarget(), "--listen", "punix:" + l.paths.simSocket()}
	for _, p := range l.ports() {
		args = append(args, "--port", p)
	}
	if l.st.Options.TLS {
		args = append(args, "--tls-cert", l.paths.certificate(SwitchHost), "--tls-key", l.paths.key(SwitchHost), "--tls-ca", l.paths.authority())
	} else {
		args = append(args, "--insecure")
	}
	return l.launch(SwitchHost, "switchsim", args...)
}

// launch starts the program shunt as a daemon for the first time.
func (l *Lab) launch(host, name string, args ...string) error {
	d := &daemon{Host: host, Name: name, Args: append([]string{l.st.Options.Binary}, args...), Env: l.share(host)}
	l.st.Daemons = append(l.st.Daemons, d)
	return l.start(d)
}

// Remove takes down the lab of the name, whatever is left of it. A lab that
// does not exist is no error; found tells whether there was anything.
func Remove(ctx context.Context, name string) (found bool, err error) {
	if err := CheckName(name); err != nil {
		return false, err
	}
	l := &Lab{paths: pathsOf(name), st: &state{Options: Options{Name: name}}}
	// A state that cannot be read names no processes; those in the lab's
	// namespaces are found without it.
	if st, err := loadState(l.paths); err == nil {
		l.st = st
	}
	left, err := netns.Names(netnsOf(name))
	if err != nil {
		return false, err
	}
	found = len(left) > 0 || l.paths.exists()
	if err := l.Down(ctx); err != nil {
		return found, fmt.Errorf("take lab %q down: %w", name, err)
	}
	return found, nil
}

// share gives a host's daemons its part of the machine's processors. Go's
// scheduler looks for work on all that it may use before it sleeps; many daemons
// that each do so on a few processors keep one another from running. The switch
// works for all hosts and is not limited.
func (l *Lab) share(host string) []string {
	if host == SwitchHost {
		return nil
	}
	return []string{fmt.Sprintf("GOMAXPROCS=%d", max(1, runtime.NumCPU()/len(l.st.Hosts)))}
}
