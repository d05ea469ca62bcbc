package sysmon

import (
	"fmt"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

// Only the monitor sleeps by nanosleep(2), time and again, while others work.
func TestTheThreadIsTheMonitor(t *testing.T) {
	tid, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	for end := time.Now().Add(10 * time.Second); time.Now().Before(end); {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/syscall", tid))
		if err != nil {
			t.Fatal(err)
		}
		if nr, _, _ := strings.Cut(string(b), " "); nr == strconv.Itoa(unix.SYS_NANOSLEEP) {
			return
		}
	}
	t.Errorf("thread %d was never seen to sleep", tid)
}

func TestRelax(t *testing.T) {
	testnet.NeedRoot(t)
	if err := Relax(3 * time.Millisecond); err != nil {
		t.Fatal(err)
	}
	tid, err := monitor()
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		task int
		want bool
	}{{tid, true}, {os.Getpid(), false}} {
		b, err := os.ReadFile(fmt.Sprintf("/proc/%d/timerslack_ns", c.task))
		if err != nil {
			t.Fatal(err)
		}
		if got := strings.TrimSpace(string(b)); got == "3000000" != c.want {
			t.Errorf("thread %d of process %d has a slack of %s ns", c.task, os.Getpid(), got)
		}
	}
}
