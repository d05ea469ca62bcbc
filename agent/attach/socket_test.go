package attach

import (
	"errors"
	"net"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

func TestProcessesThatAreNoApplicationsAreRefused(t *testing.T) {
	l := newListener(t, ListenerConfig{HelloTimeout: 500 * time.Millisecond})
	null, err := os.Open("/dev/null")
	if err != nil {
		t.Fatal(err)
	}
	defer null.Close()
	hello, _ := handoffproto.Hello{Name: "x"}.Append(nil)
	refusal, _ := handoffproto.Refusal{}.Append(nil)
	send := func(c *net.UnixConn, b []byte, fd int) {
		raw, _ := c.SyscallConn()
		handoffproto.Send(raw, b, fd)
	}
	for name, act := range map[string]func(c *net.UnixConn){
		"silence":               func(*net.UnixConn) {},
		"garbage":               func(c *net.UnixConn) { c.Write([]byte("GET / HTTP/1.1\r\n\r\n")) },
		"long frame":            func(c *net.UnixConn) { c.Write(make([]byte, 5000)) },
		"other version":         func(c *net.UnixConn) { c.Write([]byte("shnt\x09\x01")) },
		"wrong frame":           func(c *net.UnixConn) { c.Write(refusal) },
		"descriptor":            func(c *net.UnixConn) { send(c, refusal, int(null.Fd())) },
		"hello, then more":      func(c *net.UnixConn) { c.Write(hello); c.Write(hello) },
		"hello, descriptor":     func(c *net.UnixConn) { c.Write(hello); send(c, hello, int(null.Fd())) },
		"closes before hello":   func(c *net.UnixConn) { c.Close() },
		"shuts its reading end": func(c *net.UnixConn) { c.Write(hello); c.CloseRead(); c.CloseWrite() },
	} {
		t.Run(name, func(t *testing.T) {
			before := descriptors(t)
			c, err := net.DialUnix(handoffproto.Network, nil, &net.UnixAddr{Name: l.cfg.Socket, Net: handoffproto.Network})
			if err != nil {
				t.Fatal(err)
			}
			defer c.Close()
			act(c)
			c.SetReadDeadline(time.Now().Add(patience))
			var r handoffproto.Receiver
			f, _, err := r.Receive(c)
			for err == nil {
				if _, ok := f.(handoffproto.Refusal); !ok {
					t.Errorf("got %T %+v", f, f)
				}
				f, _, err = r.Receive(c)
			}
			if errors.Is(err, os.ErrDeadlineExceeded) {
				t.Error("still connected")
			}
			c.Close()
			connected(t, l, 0)
			until(t, "all descriptors are closed", func() bool { return descriptors(t) <= before })
		})
	}
	application(t, l.cfg.Socket) // and still works
	connected(t, l, 1)
}

func TestAnotherVersionIsToldSo(t *testing.T) {
	l := newListener(t, ListenerConfig{})
	c, err := net.DialUnix(handoffproto.Network, nil, &net.UnixAddr{Name: l.cfg.Socket, Net: handoffproto.Network})
	if err != nil {
		t.Fatal(err)
	}
	defer c.Close()
	c.Write([]byte("shnt\x09\x01"))
	var r handoffproto.Receiver
	f, _, err := r.Receive(c)
	if got, ok := f.(handoffproto.Refusal); !ok || !strings.Contains(got.Reason, "version 9") {
		t.Errorf("got %+v, %v", f, err)
	}
}

func TestSocketFile(t *testing.T) {
	t.Run("has the owner's and group's permissions whatever the umask", func(t *testing.T) {
		for _, umask := range []int{0, 0o077} {
			old := syscall.Umask(umask)
			l := newListener(t, ListenerConfig{})
			syscall.Umask(old)
			info, err := os.Stat(l.cfg.Socket)
			if err != nil || info.Mode() != os.ModeSocket|0o660 {
				t.Errorf("umask %o: mode %v, error %v", umask, info.Mode(), err)
			}
		}
	})
	t.Run("goes away with its listener, and its directory is made", func(t *testing.T) {
		path := filepath.Join(t.TempDir(), "new", "web.sock")
		l := newListener(t, ListenerConfig{Socket: path})
		l.Close()
		if _, err := os.Lstat(path); !errors.Is(err, os.ErrNotExist) {
			t.Errorf("after Close: %v", err)
		}
		l.Close()
	})
	t.Run("of a crashed agent is replaced", func(t *testing.T) {
		path := socketPath(t)
		old, err := net.ListenUnix(handoffproto.Network, &net.UnixAddr{Name: path, Net: handoffproto.Network})
		if err != nil {
			t.Fatal(err)
		}
		old.SetUnlinkOnClose(false)
		old.Close()
		l := newListener(t, ListenerConfig{Socket: path})
		application(t, path)
		connected(t, l, 1)
	})
	t.Run("of a live agent is left alone", func(t *testing.T) {
		l := newListener(t, ListenerConfig{})
		_, err := NewListener(background(), ListenerConfig{Socket: l.cfg.Socket})
		if err == nil || !strings.Contains(err.Error(), "another process listens there") {
			t.Errorf("a second agent: %v", err)
		}
		application(t, l.cfg.Socket)
		connected(t, l, 1)
	})
	t.Run("of another kind is left alone", func(t *testing.T) {
		path := socketPath(t)
		if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
			t.Fatal(err)
		}
		if _, err := NewListener(background(), ListenerConfig{Socket: path}); err == nil || !strings.Contains(err.Error(), path) {
			t.Errorf("over a file: %v", err)
		}
		if b, _ := os.ReadFile(path); string(b) != "precious" {
			t.Error("the file was replaced")
		}
		stream, err := net.Listen("unix", path+"2")
		if err != nil {
			t.Fatal(err)
		}
		defer stream.Close()
		if _, err := NewListener(background(), ListenerConfig{Socket: path + "2"}); err == nil {
			t.Error("over a stream socket: no error")
		}
	})
	t.Run("of a successor is left alone", func(t *testing.T) {
		path := socketPath(t)
		l := newListener(t, ListenerConfig{Socket: path})
		os.Remove(path)
		newListener(t, ListenerConfig{Socket: path})
		l.Close()
		if _, err := os.Lstat(path); err != nil {
			t.Errorf("the successor's socket is gone: %v", err)
		}
	})
	t.Run("without a path or a place", func(t *testing.T) {
		for _, path := range []string{"", "/dev/null/web.sock", "/" + strings.Repeat("x", 200)} {
			if l, err := NewListener(background(), ListenerConfig{Socket: path}); err == nil {
				t.Errorf("%q: no error", path)
				l.Close()
			}
		}
	})
}
