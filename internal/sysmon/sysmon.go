// Package sysmon has the Go runtime's monitor thread wake up less often.
//
// While a process does anything at all, that thread looks after it every 20 µs
// (runtime.sysmon in runtime/proc.go). In a daemon whose work comes in bursts of
// some 100 µs this takes a quarter of all its processor time, and each time a
// switch from or to whatever else the processor has to do.
package sysmon

import (
	"errors"
	"fmt"
	"os"
	"strconv"
	"time"
)

// Relax lets each of the monitor's sleeps last longer by as much as slack
// (PR_SET_TIMERSLACK in prctl(2)); the kernel's default is 50 µs. Goroutines
// behind a system call that blocks its processor may have to wait so much longer
// for another one, and one that computes without end is interrupted so much later.
// Threads that the monitor starts inherit the slack, so timers, too, may be late by
// as much. It fails without CAP_SYS_NICE.
func Relax(slack time.Duration) error {
	tid, err := monitor()
	if err != nil {
		return err
	}
	file := fmt.Sprintf("/proc/%d/timerslack_ns", tid)
	if err := os.WriteFile(file, []byte(strconv.FormatInt(slack.Nanoseconds(), 10)), 0); err != nil {
		return fmt.Errorf("set the timer slack of Go's monitor thread: %w", err)
	}
	return nil
}

// monitor returns the thread's number. The kernel lists threads in the order of
// their birth, and the runtime starts this one before it runs anything else.
func monitor() (int, error) {
	d, err := os.Open("/proc/self/task")
	if err != nil {
		return 0, fmt.Errorf("find Go's monitor thread: %w", err)
	}
	defer d.Close()
	names, err := d.Readdirnames(2)
	if err == nil && len(names) < 2 {
		err = errors.New("this process has only one thread")
	}
	if err != nil {
		return 0, fmt.Errorf("find Go's monitor thread: %w", err)
	}
	return strconv.Atoi(names[1])
}
