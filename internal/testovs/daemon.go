package testovs

import (
	"bytes"
	"fmt"
	"net"
	"os/exec"
	"syscall"
	"time"
)

// daemon is a process inside the switch's namespace.
type daemon struct {
	name   string
	cmd    *exec.Cmd
	output bytes.Buffer // complete once done is closed
	done   chan struct{}
	err    error // why it ended; set before done is closed
}

// spawn starts a program in the switch's namespace. One thread starts it and
// then waits for it: the kernel sends a parent-death signal when the thread
// that forked ends, not the process, so that thread has to stay.
func (s *Switch) spawn(name string, args ...string) *daemon {
	s.t.Helper()
	d := &daemon{name: name, cmd: exec.Command(name, args...), done: make(chan struct{})}
	d.cmd.Env = s.env()
	d.cmd.Stdout, d.cmd.Stderr = &d.output, &d.output
	d.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	started := make(chan error, 1)
	go func() {
		defer close(d.done)
		d.err = s.ns.Try(func() error {
			err := d.cmd.Start()
			started <- err
			if err != nil {
				return err
			}
			return d.cmd.Wait()
		})
		select {
		case started <- d.err: // the namespace could not be entered
		default:
		}
	}()
	if err := <-started; err != nil {
		s.t.Fatalf("start %s: %v", name, err)
	}
	return d
}

// stop signals the process and waits for its end, with SIGKILL after a while.
func (d *daemon) stop(sig syscall.Signal) error {
	_ = d.cmd.Process.Signal(syscall.SIGCONT) // it may be suspended, or gone
	_ = d.cmd.Process.Signal(sig)
	select {
	case <-d.done:
		return nil
	case <-time.After(patience):
	}
	_ = d.cmd.Process.Kill()
	<-d.done
	return fmt.Errorf("%s (pid %d) %w after %v and was killed", d.name, d.cmd.Process.Pid, errStuck, patience)
}

// accepts reports whether somebody listens on a unix socket.
func accepts(path string) bool {
	c, err := net.Dial("unix", path)
	if err != nil {
		return false
	}
	c.Close()
	return true
}
