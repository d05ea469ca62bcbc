package fabric

import (
	"context"
	"errors"
	"net"
	"path/filepath"
	"testing"

	"go.uber.org/goleak"
)

func TestRunLeavesNothingRunning(t *testing.T) {
	r := newSimRig(t, false)
	defer goleak.VerifyNone(t, goleak.IgnoreCurrent())
	r.start(ExactFlow)
	r.stop()

	// A switch that cannot be reached, and a peer that says nothing.
	c := r.config(ExactFlow)
	c.Switches[0].Connect = "unix:" + filepath.Join(t.TempDir(), "nobody")
	f, err := New(c)
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- f.Run(ctx, l, nil) }()
	silent, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	defer silent.Close()
	eventually(t, "the failure is reported", func() error {
		if f.Status()[0].Err == "" {
			return errors.New("no error yet")
		}
		return nil
	})
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("Run: %v", err)
	}
}

func TestRunEndsWhenItsListenerFails(t *testing.T) {
	f, err := New(Config{})
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if err := f.Run(t.Context(), l, nil); !errors.Is(err, net.ErrClosed) {
		t.Errorf("Run: %v", err)
	}
	if err := wait(func(done func(error)) { f.Steer(session(families[0], 1, "n"), done) }); err == nil {
		t.Error("a fabric without switches steers")
	}
}
