package liveness

import (
	"errors"
	"io"
	"net"
	"os"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"go.uber.org/goleak"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

const (
	silence  = 1500 * time.Millisecond
	patience = 10 * time.Second
)

// bed is a connection between two hosts.
type bed struct {
	*testing.T
	far          *testnet.NS
	server, peer net.Conn
}

func newBed(t *testing.T, network, near, far string) *bed {
	testnet.NeedRoot(t)
	b := &bed{T: t, far: testnet.NewNS(t)}
	here := testnet.NewNS(t)
	testnet.Veth(here, "eth0", b.far, "eth0")
	here.Addr("eth0", near)
	b.far.Addr("eth0", far)
	var l net.Listener
	here.Do(func() (err error) {
		l, err = net.Listen(network, net.JoinHostPort(host(near), "0"))
		return err
	})
	l = Listen(l, silence)
	defer l.Close()
	b.far.Do(func() (err error) {
		b.peer, err = net.Dial(network, l.Addr().String())
		return err
	})
	t.Cleanup(func() { b.peer.Close() })
	var err error
	if b.server, err = l.Accept(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { b.server.Close() })
	return b
}

func host(prefix string) string {
	ip, _, err := net.ParseCIDR(prefix)
	if err != nil {
		panic(err)
	}
	return ip.String()
}

// link takes the other host's link down or up.
func (b *bed) link(change func(*netlink.Handle, netlink.Link) error) {
	b.Helper()
	l, err := b.far.Link.LinkByName("eth0")
	if err == nil {
		err = change(b.far.Link, l)
	}
	if err != nil {
		b.Fatal(err)
	}
}

func (b *bed) send() {
	b.Helper()
	if _, err := b.server.Write([]byte("ping")); err != nil {
		b.Fatal(err)
	}
}

// read reads until the connection ends.
func (b *bed) read() error {
	b.server.SetReadDeadline(time.Now().Add(patience))
	_, err := io.Copy(io.Discard, b.server)
	return err
}

func (b *bed) is(want bool) {
	b.Helper()
	if got := Silent(b.server.RemoteAddr()); got != want {
		b.Errorf("silent: %v, want %v", got, want)
	}
}

// await waits until the connection looks silent.
func (b *bed) await() {
	b.Helper()
	poll := time.NewTicker(10 * time.Millisecond)
	defer poll.Stop()
	for end := time.Now().Add(patience); !Silent(b.server.RemoteAddr()); <-poll.C {
		if time.Now().After(end) {
			b.Fatal("the connection does not look silent")
		}
	}
}

func onEach(t *testing.T, f func(*bed)) {
	for _, x := range [][3]string{{"tcp4", "10.9.0.1/24", "10.9.0.2/24"}, {"tcp6", "fd09::1/64", "fd09::2/64"}} {
		t.Run(x[0], func(t *testing.T) {
			t.Parallel()
			f(newBed(t, x[0], x[1], x[2]))
		})
	}
}

func TestADeadHostIsSilent(t *testing.T) {
	onEach(t, func(b *bed) {
		b.is(false)
		b.link((*netlink.Handle).LinkSetDown)
		b.send()
		begun := time.Now()
		err := b.read()
		if !errors.Is(err, unix.ETIMEDOUT) && !errors.Is(err, unix.EHOSTUNREACH) {
			b.Errorf("read: %v", err)
		}
		if took := time.Since(begun); took < silence/2 || took > patience/2 {
			b.Errorf("given up after %v, want about %v", took, silence)
		}
		b.server.Close()
		b.is(true)
	})
}

func TestWhoIsGivenUpBeforeTheKernelDoesIsSilentToo(t *testing.T) {
	onEach(t, func(b *bed) {
		b.link((*netlink.Handle).LinkSetDown)
		b.is(false) // nothing was sent that could be acknowledged
		b.send()
		b.await()
		b.server.Close()
		b.is(true)
	})
}

func TestAProgramThatEndsIsNotSilent(t *testing.T) {
	onEach(t, func(b *bed) {
		b.send()
		b.peer.Close() // with what it has not read: a RST
		if err := b.read(); err != nil && !errors.Is(err, unix.ECONNRESET) {
			b.Errorf("read: %v", err)
		}
		// That the host dies afterwards changes nothing.
		b.link((*netlink.Handle).LinkSetDown)
		b.server.Close()
		b.is(false)
	})
}

func TestAProgramThatHangsIsNotSilent(t *testing.T) {
	onEach(t, func(b *bed) {
		b.send()
		b.server.SetReadDeadline(time.Now().Add(2 * silence))
		if _, err := b.server.Read(make([]byte, 1)); !errors.Is(err, os.ErrDeadlineExceeded) {
			b.Errorf("read: %v", err)
		}
		b.is(false)
		b.server.Close()
		b.is(false)
	})
}

func TestAProgramThatHangsWithFullBuffersIsNotSilentUntilItsHostIs(t *testing.T) {
	onEach(t, func(b *bed) {
		for err := error(nil); err == nil; {
			b.server.SetWriteDeadline(time.Now().Add(silence / 3))
			_, err = b.server.Write(make([]byte, 1<<20))
		}
		b.is(false)
		b.link((*netlink.Handle).LinkSetDown)
		b.await()
	})
}

func TestOthersAreNotSilent(t *testing.T) {
	if Silent(nil) || Silent(&net.TCPAddr{}) {
		t.Error("an address of no connection is silent")
	}
}
