package main

import (
	"io"
	"os"
	"runtime"
	"sync"
	"syscall"
	"time"

	"golang.org/x/sys/unix"
)

// output is the standard output and error of a program that does not run as
// root. The container's own are root's: a web server that opens /dev/stdout for
// its access log, as they do, would be refused. So it gets a pipe of its own.
type output struct {
	r, w    *os.File
	copying sync.WaitGroup
}

// lastWords is how long what a program has left behind may still write.
const lastWords = time.Second

func newOutput(c *syscall.Credential) (*output, error) {
	o := &output{}
	if err := o.pipe(c); err != nil {
		return nil, err
	}
	o.copying.Go(func() { _, _ = io.Copy(os.Stdout, o.r) })
	return o, nil
}

// pipe makes a pipe that belongs to the user. The kernel goes by the thread's
// user for file systems, which only this call changes.
func (o *output) pipe(c *syscall.Credential) error {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	if err := unix.Setfsgid(int(c.Gid)); err != nil {
		return err
	}
	defer unix.Setfsgid(os.Getegid())
	if err := unix.Setfsuid(int(c.Uid)); err != nil {
		return err
	}
	defer unix.Setfsuid(os.Geteuid())
	var fds [2]int
	if err := unix.Pipe2(fds[:], unix.O_CLOEXEC); err != nil {
		return err
	}
	if err := unix.SetNonblock(fds[0], true); err != nil { // for the deadline of close
		unix.Close(fds[0])
		unix.Close(fds[1])
		return err
	}
	o.r, o.w = os.NewFile(uintptr(fds[0]), "output"), os.NewFile(uintptr(fds[1]), "output")
	return nil
}

// close waits until all that was written is copied.
func (o *output) close() {
	o.w.Close()
	_ = o.r.SetReadDeadline(time.Now().Add(lastWords))
	o.copying.Wait()
	o.r.Close()
}
