package lab

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab/netns"
	"github.com/shunt-sdn/shunt/lab/process"
)

// start starts a daemon inside its host's namespace, in a session of its own,
// with its output appended to its log, and remembers it.
func (l *Lab) start(d *daemon) error {
	h, err := l.st.host(d.Host)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(l.paths.host(d.Host), 0o755); err != nil {
		return fmt.Errorf("start %s on %s: %w", d.Name, d.Host, err)
	}
	log, err := os.OpenFile(l.paths.log(d), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o644)
	if err != nil {
		return fmt.Errorf("start %s on %s: %w", d.Name, d.Host, err)
	}
	defer log.Close()
	cmd := exec.Command(d.Args[0], d.Args[1:]...)
	cmd.Dir = l.paths.host(d.Host)
	cmd.Env = append(os.Environ(), d.Env...)
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &unix.SysProcAttr{Setsid: true}
	err = netns.Do(h.Netns, cmd.Start)
	if err != nil {
		return fmt.Errorf("start %s on %s: %w", d.Name, d.Host, err)
	}
	l.children.Go(func() { _ = cmd.Wait() }) // reaps it; how it ended is in its log
	d.Process, err = process.Identify(cmd.Process.Pid)
	if err != nil {
		d.Process = process.ID{} // it ended already and was reaped
	}
	return l.st.save(l.paths)
}

// Start starts a daemon that has ended, with the arguments that it had.
func (l *Lab) Start(host, name string) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, err := l.st.daemon(host, name)
	if err != nil {
		return err
	}
	if d.Process.Alive() {
		return fmt.Errorf("start %s on %s: it runs as process %d", name, host, d.Process.PID)
	}
	if err := l.start(d); err != nil {
		return err
	}
	if name == vswitchd {
		return l.settleOVS(context.Background(), d) // bounded in itself
	}
	return nil
}

// Signal sends a signal to a daemon. One that has ended is os.ErrProcessDone.
func (l *Lab) Signal(host, name string, sig unix.Signal) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	d, err := l.st.daemon(host, name)
	if err != nil {
		return err
	}
	if err := d.Process.Signal(sig); err != nil {
		return fmt.Errorf("signal %s on %s: %w", name, host, err)
	}
	return nil
}

// WaitExit returns when a daemon has ended, or with the context's error.
func (l *Lab) WaitExit(ctx context.Context, host, name string) error {
	l.mu.Lock()
	d, err := l.st.daemon(host, name)
	var id process.ID
	if err == nil {
		id = d.Process
	}
	l.mu.Unlock()
	if err != nil {
		return err
	}
	return id.Wait(ctx)
}

// Log returns the path of a daemon's log.
func (l *Lab) Log(host, name string) string {
	return l.paths.log(&daemon{Host: host, Name: name})
}

// ended lists the daemons that should run and do not.
func (l *Lab) ended() []*daemon {
	var out []*daemon
	for _, d := range l.st.Daemons {
		if !d.Process.Alive() {
			out = append(out, d)
		}
	}
	return out
}

// tail returns the last lines of a daemon's log, each indented.
func (l *Lab) tail(d *daemon, lines int) string {
	const most = 16 << 10
	f, err := os.Open(l.paths.log(d))
	if err != nil {
		return "\t" + err.Error()
	}
	defer f.Close()
	if st, err := f.Stat(); err == nil && st.Size() > most {
		_, _ = f.Seek(-most, io.SeekEnd)
	}
	b, err := io.ReadAll(f)
	if err != nil {
		return "\t" + err.Error()
	}
	all := strings.Split(strings.TrimRight(string(b), "\n"), "\n")
	return "\t" + strings.Join(all[max(0, len(all)-lines):], "\n\t")
}

// program finds a program, also where root's PATH is short.
func program(name, remedy string) (string, error) {
	if p, err := exec.LookPath(name); err == nil {
		return p, nil
	}
	for _, dir := range []string{"/usr/local/sbin", "/usr/sbin", "/sbin"} {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", fmt.Errorf("%s is not installed; %s", name, remedy)
}

// MainDaemon returns the daemon that is meant when only a host is named: its
// agent, its switch, or the only one that it has.
func (l *Lab) MainDaemon(host string) (string, error) {
	h, err := l.st.host(host)
	if err != nil {
		return "", err
	}
	switch {
	case h.Role == RoleController:
		return "controller", nil
	case h.Role == RoleDispatcher || h.Role == RoleServer:
		return "agent", nil
	case h.Role == RoleSwitch && l.st.Options.Switch == SwitchOVS:
		return vswitchd, nil
	case h.Role == RoleSwitch:
		return "switchsim", nil
	}
	return "", fmt.Errorf("host %q has no daemons", host)
}
