package process

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

func start(t *testing.T, args ...string) (ID, *exec.Cmd) {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	return id, cmd
}

func TestAProcessThatEndedIsNotAliveBeforeItIsReaped(t *testing.T) {
	id, cmd := start(t, "true")
	if err := id.Wait(t.Context()); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Error("a zombie counts as alive")
	}
	if err := id.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal to a zombie: %v, want %v", err, os.ErrProcessDone)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := id.Wait(t.Context()); err != nil {
		t.Errorf("wait for a process that is gone: %v", err)
	}
}

func TestANumberThatWasGivenToAnotherProcessIsNotSignalled(t *testing.T) {
	id, cmd := start(t, "sleep", "60")
	other := ID{PID: id.PID, Start: id.Start - 1}
	if other.Alive() {
		t.Error("another process with the same number counts as alive")
	}
	if err := other.Signal(unix.SIGKILL); !errors.Is(err, os.ErrProcessDone) {
		t.Errorf("signal: %v, want %v", err, os.ErrProcessDone)
	}
	if !id.Alive() {
		t.Error("the process was signalled")
	}
	if err := Stop(t.Context(), time.Minute, id); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
}

func TestStopKillsAProcessThatIgnoresTerminate(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "trap '' TERM; echo ready; while :; do sleep 60; done")
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	cmd.SysProcAttr = &unix.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	defer unix.Kill(-cmd.Process.Pid, unix.SIGKILL)
	id, err := Identify(cmd.Process.Pid)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := out.Read(make([]byte, 16)); err != nil {
		t.Fatal(err)
	}
	if err := Stop(t.Context(), 10*time.Millisecond, id, ID{}); err != nil {
		t.Fatal(err)
	}
	if id.Alive() {
		t.Error("the process is alive")
	}
	cmd.Wait()
}

func TestWaitEndsWithItsContext(t *testing.T) {
	id, cmd := start(t, "sleep", "60")
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if err := id.Wait(ctx); !errors.Is(err, context.Canceled) {
		t.Errorf("wait: %v, want %v", err, context.Canceled)
	}
	id.Signal(unix.SIGKILL)
	cmd.Wait()
}
