package lab

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab/netns"
)

// Exec runs a command on a host and returns what it wrote to standard output.
// The error of one that failed wraps *exec.ExitError and has the end of what it
// wrote to standard error.
func (l *Lab) Exec(ctx context.Context, host string, command ...string) ([]byte, error) {
	if len(command) == 0 {
		return nil, fmt.Errorf("run a command on %s: none given", host)
	}
	var stdout, stderr bytes.Buffer
	env := l.Environ()
	path, err := lookPath(command[0], env)
	if err != nil {
		return nil, fmt.Errorf("run %s on %s: %w", command[0], host, err)
	}
	cmd := exec.CommandContext(ctx, path, command[1:]...)
	cmd.Env = env
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	if err = l.StartCommand(host, cmd); err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		said := strings.TrimSpace(stderr.String())
		return stdout.Bytes(), fmt.Errorf("run %s on %s: %w: %s", strings.Join(command, " "), host, err, said[max(0, len(said)-2048):])
	}
	return stdout.Bytes(), nil
}

// StartCommand starts a command on a host with the lab's environment. The
// caller waits for it.
func (l *Lab) StartCommand(host string, cmd *exec.Cmd) error {
	h, err := l.st.host(host)
	if err != nil {
		return err
	}
	if cmd.Env == nil {
		cmd.Env = l.Environ()
	}
	return netns.DoView(h.Netns, l.paths.scratch(), cmd.Start)
}

// Replace replaces the calling program by a command on a host. It returns only
// if it fails, and then the program must end: its thread is in the namespace.
func (l *Lab) Replace(host string, command ...string) error {
	h, err := l.st.host(host)
	if err != nil {
		return err
	}
	env := l.Environ()
	path, err := lookPath(command[0], env)
	if err != nil {
		return fmt.Errorf("run %s on %s: %w", command[0], host, err)
	}
	runtime.LockOSThread()
	if err := netns.EnterView(h.Netns, l.paths.scratch()); err != nil {
		return err
	}
	return fmt.Errorf("run %s on %s: %w", path, host, unix.Exec(path, command, env))
}

// Environ is the environment of commands on hosts: the caller's, with
// SHUNT_CONTROLLER, where the operator's verbs find the controller, and SHUNT_LAB, the
// lab's name; the program shunt is on PATH.
func (l *Lab) Environ() []string {
	set := [][2]string{
		{"PATH", filepath.Dir(l.st.Options.Binary) + string(filepath.ListSeparator) + os.Getenv("PATH")},
		{"SHUNT_CONTROLLER", l.operator()},
		{"SHUNT_LAB", l.Name()},
	}
	// A name must not be there twice: programs differ in which one they take.
	env := slices.DeleteFunc(os.Environ(), func(e string) bool {
		return slices.ContainsFunc(set, func(kv [2]string) bool { return strings.HasPrefix(e, kv[0]+"=") })
	})
	for _, kv := range set {
		env = append(env, kv[0]+"="+kv[1])
	}
	return env
}

// lookPath finds a program as exec.LookPath does, on the PATH of env.
func lookPath(name string, env []string) (string, error) {
	if strings.Contains(name, "/") {
		return exec.LookPath(name)
	}
	var path string
	for _, e := range env {
		if v, ok := strings.CutPrefix(e, "PATH="); ok {
			path = v
		}
	}
	for _, dir := range filepath.SplitList(path) {
		if p, err := exec.LookPath(filepath.Join(dir, name)); err == nil {
			return p, nil
		}
	}
	return "", &exec.Error{Name: name, Err: exec.ErrNotFound}
}
