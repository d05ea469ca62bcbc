// Package process starts daemons, remembers them across programs and stops
// exactly those: a process is its number and the time at which it started, so
// a number that the kernel has given to somebody else is never signalled.
package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"time"

	"golang.org/x/sys/unix"
)

// ID is a process, for ever. The zero value is none.
type ID struct {
	PID int `json:"pid"`
	// Start is field 22 of /proc/PID/stat: clock ticks from boot to the start.
	Start uint64 `json:"start"`
}

// Identify returns the identity of a process that runs.
func Identify(pid int) (ID, error) {
	st, err := stat(pid)
	if err != nil {
		return ID{}, err
	}
	return ID{PID: pid, Start: st.start}, nil
}

// Alive tells whether the process still runs; a zombie does not.
func (id ID) Alive() bool {
	st, err := stat(id.PID)
	return err == nil && st.start == id.Start && st.state != 'Z' && st.state != 'X'
}

// Signal sends a signal. A process that has ended is os.ErrProcessDone.
func (id ID) Signal(sig unix.Signal) error {
	fd, err := id.open(ID.Alive)
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	if err := unix.PidfdSendSignal(fd, sig, nil, 0); errors.Is(err, unix.ESRCH) {
		return os.ErrProcessDone
	} else if err != nil {
		return fmt.Errorf("send %s to process %d: %w", unix.SignalName(sig), id.PID, err)
	}
	return nil
}

// present tells whether the process is there, be it as a zombie.
func (id ID) present() bool {
	st, err := stat(id.PID)
	return err == nil && st.start == id.Start
}

// open returns a pidfd of a process of which is holds. The start time is compared
// after the descriptor is there, so what the descriptor refers to is the process
// that was meant.
func (id ID) open(is func(ID) bool) (int, error) {
	if id.PID <= 0 {
		return -1, os.ErrProcessDone
	}
	fd, err := unix.PidfdOpen(id.PID, 0)
	if errors.Is(err, unix.ESRCH) || errors.Is(err, unix.EINVAL) { // gone, or now a thread's number
		return -1, os.ErrProcessDone
	}
	if err != nil {
		return -1, fmt.Errorf("open process %d: %w", id.PID, err)
	}
	if !is(id) {
		unix.Close(fd)
		return -1, os.ErrProcessDone
	}
	return fd, nil
}

// Wait returns when the process has ended, or with the context's error. It
// does not reap the process.
func (id ID) Wait(ctx context.Context) error {
	// Not Alive: the first thread can be a zombie while others still hold the
	// process's files. A pidfd is readable when all have ended.
	fd, err := id.open(ID.present)
	if errors.Is(err, os.ErrProcessDone) {
		return nil
	}
	if err != nil {
		return err
	}
	defer unix.Close(fd)
	for {
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("wait for process %d to end: %w", id.PID, err)
		}
		// Readable once the process has ended. Looks up for the context.
		n, err := unix.Poll([]unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}, 50)
		if err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for process %d to end: %w", id.PID, err)
		}
		if n > 0 {
			return nil
		}
	}
}

// Stop asks the processes to end with SIGTERM, gives them the grace period,
// and kills those that are left. It returns when all have ended.
func Stop(ctx context.Context, grace time.Duration, ids ...ID) error {
	var errs []error
	for _, id := range ids {
		if err := id.Signal(unix.SIGTERM); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
		}
	}
	patient, cancel := context.WithTimeout(ctx, grace)
	defer cancel()
	for _, id := range ids {
		if id.Wait(patient) == nil {
			continue
		}
		if err := id.Signal(unix.SIGKILL); err != nil && !errors.Is(err, os.ErrProcessDone) {
			errs = append(errs, err)
			continue
		}
		if err := id.Wait(ctx); err != nil {
			errs = append(errs, err)
		}
	}
	return errors.Join(errs...)
}

// status is what this package needs of /proc/PID/stat (proc_pid_stat(5)).
type status struct {
	state  byte   // field 3
	parent int    // field 4
	start  uint64 // field 22
}

func stat(pid int) (status, error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return status{}, fmt.Errorf("look at process %d: %w", pid, err)
	}
	// The second field is the name in parentheses, which may contain both.
	fields := bytes.Fields(b[bytes.LastIndexByte(b, ')')+1:])
	if len(fields) < 20 {
		return status{}, fmt.Errorf("look at process %d: unexpected /proc/%d/stat %q", pid, pid, b)
	}
	st := status{state: fields[0][0]}
	if st.parent, err = strconv.Atoi(string(fields[1])); err == nil {
		st.start, err = strconv.ParseUint(string(fields[19]), 10, 64)
	}
	if err != nil {
		return status{}, fmt.Errorf("look at process %d: %w in /proc/%d/stat %q", pid, err, pid, b)
	}
	return st, nil
}

// Parent returns the number of a process's parent, 0 if it is gone.
func Parent(pid int) int {
	st, err := stat(pid)
	if err != nil {
		return 0
	}
	return st.parent
}
