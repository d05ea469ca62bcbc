package handoffproto

import (
	"errors"
	"io"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// connection is both ends of a SEQPACKET connection.
func connection(t testing.TB) (agent, app *net.UnixConn) {
	t.Helper()
	addr := &net.UnixAddr{Name: filepath.Join(t.TempDir(), "s"), Net: Network}
	l, err := net.ListenUnix(Network, addr)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if app, err = net.DialUnix(Network, nil, addr); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { app.Close() })
	if agent, err = l.AcceptUnix(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { agent.Close() })
	app.SetDeadline(time.Now().Add(10 * time.Second))
	return agent, app
}

func raw(t testing.TB, c *net.UnixConn) syscall.RawConn {
	t.Helper()
	r, err := c.SyscallConn()
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func encoded(t testing.TB, f Frame) []byte {
	t.Helper()
	b, err := f.Append(nil)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

// pipe returns a reader and the bare descriptor of the writer.
func pipe(t testing.TB) (*os.File, int) {
	t.Helper()
	var p [2]int
	if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
		t.Fatal(err)
	}
	r := os.NewFile(uintptr(p[0]), "pipe")
	t.Cleanup(func() { r.Close() })
	r.SetReadDeadline(time.Now().Add(10 * time.Second))
	return r, p[1]
}

var aSession = Session{ID: "h1", Client: netip.MustParseAddrPort("192.0.2.1:1"), Local: netip.MustParseAddrPort("172.31.0.1:80")}

func TestADescriptorTravelsWithItsFrame(t *testing.T) {
	agent, app := connection(t)
	r, w := pipe(t)
	if err := Send(raw(t, agent), encoded(t, aSession), w); err != nil {
		t.Fatal(err)
	}
	syscall.Close(w)
	var rec Receiver
	f, fd, err := rec.Receive(app)
	if err != nil || f != aSession || fd < 0 {
		t.Fatalf("received %+v, %d, %v", f, fd, err)
	}
	flags, _, errno := syscall.Syscall(syscall.SYS_FCNTL, uintptr(fd), syscall.F_GETFD, 0)
	if errno != 0 || flags&syscall.FD_CLOEXEC == 0 {
		t.Errorf("the descriptor is inherited by programs: flags %x, %v", flags, errno)
	}
	syscall.Write(fd, []byte("through"))
	syscall.Close(fd)
	if b, err := io.ReadAll(r); string(b) != "through" || err != nil {
		t.Errorf("read %q, %v", b, err)
	}
}

func TestEveryDescriptorThatIsNotReturnedIsClosed(t *testing.T) {
	hello := encoded(t, Hello{})
	session := encoded(t, aSession)
	for _, c := range []struct {
		name   string
		frame  []byte
		copies int
		wantFD bool
	}{
		{"a malformed frame", []byte("garbage"), 1, false},
		{"a frame of another version", []byte(magic + "\x02\x02"), 2, false},
		{"a frame that is too long", []byte(magic + strings.Repeat("x", 3*MaxFrame)), 1, false},
		{"two with a session", session, 2, true},
		{"as many as fit and more", session, 200, true},
		{"with a hello", hello, 3, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			agent, app := connection(t)
			r, w := pipe(t)
			fds := make([]int, c.copies)
			for i := range fds {
				fds[i] = w
			}
			raw(t, agent).Control(func(s uintptr) {
				if err := syscall.Sendmsg(int(s), c.frame, syscall.UnixRights(fds...), nil, 0); err != nil {
					t.Fatal(err)
				}
			})
			syscall.Close(w)
			var rec Receiver
			_, fd, err := rec.Receive(app)
			if (fd >= 0) != c.wantFD || (err == nil) != c.wantFD {
				t.Errorf("descriptor %d, error %v", fd, err)
			}
			if fd >= 0 {
				syscall.Close(fd)
			}
			if _, err := r.Read(make([]byte, 1)); err != io.EOF {
				t.Errorf("the pipe still has writers: %v", err)
			}
		})
	}
}

func TestReceiveTellsEndsApart(t *testing.T) {
	var rec Receiver
	agent, app := connection(t)
	Send(raw(t, agent), encoded(t, aSession), -1)
	if _, fd, err := rec.Receive(app); !errors.Is(err, ErrDescriptorLost) || fd != -1 || !strings.Contains(err.Error(), "h1") {
		t.Errorf("a session without a descriptor: %d, %v", fd, err)
	}
	Send(raw(t, agent), encoded(t, Give{Session: aSession, Node: "s2"}), -1)
	if _, fd, err := rec.Receive(app); !errors.Is(err, ErrDescriptorLost) || fd != -1 {
		t.Errorf("a connection given without a descriptor: %d, %v", fd, err)
	}
	question := Question{Session: aSession, Head: strings.Repeat("x", MaxHead)}
	Send(raw(t, agent), encoded(t, question), -1)
	if _, _, err := rec.Receive(app); !errors.Is(err, errMalformed) {
		t.Errorf("a question where none is expected: %v", err)
	}
	Send(raw(t, agent), encoded(t, question), -1)
	if f, _, err := NewAgentReceiver().Receive(app); f != question || err != nil {
		t.Errorf("a question as long as can be: %T, %v", f, err)
	}
	app.SetReadDeadline(time.Unix(1, 0))
	if _, _, err := rec.Receive(app); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Errorf("at a deadline: %v", err)
	}
	app.SetReadDeadline(time.Time{})
	Send(raw(t, agent), encoded(t, Refusal{Reason: "x"}), -1)
	agent.Close()
	if f, fd, err := rec.Receive(app); f != (Refusal{Reason: "x"}) || fd != -1 || err != nil {
		t.Errorf("a frame before the end: %+v, %d, %v", f, fd, err)
	}
	if _, _, err := rec.Receive(app); err != io.EOF {
		t.Errorf("at the end: %v, want EOF", err)
	}
}

func TestSendNeverWaits(t *testing.T) {
	agent, app := connection(t)
	r, w := pipe(t)
	frame := encoded(t, aSession)
	n := 0
	var err error
	for ; err == nil && n < 10_000; n++ {
		err = Send(raw(t, agent), frame, w)
	}
	if !errors.Is(err, syscall.EAGAIN) {
		t.Fatalf("after %d frames: %v, want EAGAIN", n, err)
	}
	app.Close() // the kernel closes what is in the queue
	if err := Send(raw(t, agent), frame, w); !errors.Is(err, syscall.EPIPE) && !errors.Is(err, syscall.ECONNRESET) {
		t.Errorf("to a peer that is gone: %v", err)
	}
	agent.Close()
	if err := Send(raw(t, agent), frame, w); !errors.Is(err, net.ErrClosed) {
		t.Errorf("on a closed connection: %v", err)
	}
	syscall.Close(w)
	if _, err := r.Read(make([]byte, 1)); err != io.EOF {
		t.Errorf("the pipe still has writers: %v", err)
	}
}

// Whatever a peer sends, with or without descriptors: no panic, none left open.
func FuzzReceive(f *testing.F) {
	f.Add([]byte("garbage"), uint8(1))
	f.Add([]byte(magic+"\x01\x02"), uint8(30))
	b, _ := aSession.Append(nil)
	f.Add(b, uint8(0))
	f.Add(b, uint8(1))
	f.Add(b, uint8(250))
	f.Fuzz(func(t *testing.T, frame []byte, copies uint8) {
		pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_SEQPACKET|syscall.SOCK_CLOEXEC|syscall.SOCK_NONBLOCK, 0)
		if err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(pair[0])
		file := os.NewFile(uintptr(pair[1]), "app")
		c, err := net.FileConn(file)
		file.Close()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		var p [2]int
		if err := syscall.Pipe2(p[:], syscall.O_CLOEXEC|syscall.O_NONBLOCK); err != nil {
			t.Fatal(err)
		}
		defer syscall.Close(p[0])
		fds := make([]int, copies)
		for i := range fds {
			fds[i] = p[1]
		}
		var rights []byte
		if copies > 0 {
			rights = syscall.UnixRights(fds...)
		}
		err = syscall.Sendmsg(pair[0], frame, rights, nil, 0)
		syscall.Close(p[1])
		if err != nil {
			return // too long, or too many
		}
		var rec Receiver
		c.SetReadDeadline(time.Now().Add(10 * time.Second))
		got, fd, err := rec.Receive(c.(*net.UnixConn))
		if (err == nil) == (got == nil) || err != nil && fd >= 0 {
			t.Errorf("frame %+v, descriptor %d, error %v", got, fd, err)
		}
		if fd >= 0 {
			syscall.Close(fd)
		}
		if n, err := syscall.Read(p[0], make([]byte, 1)); n != 0 || err != nil {
			t.Errorf("the pipe still has writers: %d, %v", n, err)
		}
		runtime.KeepAlive(c)
	})
}
