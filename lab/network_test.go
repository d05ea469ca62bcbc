package lab

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/lab/app"
	"github.com/shunt-sdn/shunt/lab/netns"
)

// bare makes a lab without Shunt's daemons.
func bare(t *testing.T, o Options) *Lab {
	t.Helper()
	testnet.NeedRoot(t)
	o.Name = testName(t)
	o.Binary = "/bin/false"
	o, err := o.complete()
	if err != nil {
		t.Fatal(err)
	}
	p := pathsOf(o.Name)
	if err := p.makeDir(); err != nil {
		t.Fatal(err)
	}
	l := &Lab{paths: p, st: &state{Options: o, Hosts: hosts(o), Service: service(o)}}
	t.Cleanup(func() {
		if err := l.Down(context.WithoutCancel(t.Context())); err != nil {
			t.Error(err)
		}
	})
	if err := l.st.save(l.paths); err != nil {
		t.Fatal(err)
	}
	if err := buildNetwork(l.st); err != nil {
		t.Fatal(err)
	}
	return l
}

// testName is a lab's name that no other test process uses.
func testName(t *testing.T) string {
	t.Helper()
	return fmt.Sprintf("test-%d", os.Getpid())
}

// serve runs the lab's web server on a host.
func serve(t *testing.T, l *Lab, host, address string) {
	t.Helper()
	var listener net.Listener
	if err := l.Do(host, func() (err error) { listener, err = net.Listen("tcp", address); return err }); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- app.Serve(ctx, host, slog.New(slog.DiscardHandler), listener) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// download checks a document octet for octet and returns how long it took.
func download(t *testing.T, client *http.Client, url string, size int64) time.Duration {
	t.Helper()
	begin := time.Now()
	req, err := http.NewRequestWithContext(t.Context(), "GET", fmt.Sprintf("%s/bytes/%d", url, size), nil)
	if err != nil {
		t.Fatal(err)
	}
	res, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	v := app.NewVerifier(size)
	if _, err := io.Copy(v, res.Body); err != nil {
		t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		t.Fatal(err)
	}
	return time.Since(begin)
}

func TestOpenVSwitchForwardsFramesOfEverySize(t *testing.T) {
	testnet.NeedProgram(t, "ovs-vswitchd", "ovs-ofctl")
	l := bare(t, Options{Switch: SwitchOVS, IPv6: true, Servers: 2})
	if err := l.startOVS(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), "ovs-ofctl", "add-flow", l.Info().Switch.OpenFlow, "actions=NORMAL"); err != nil {
		t.Fatal(err)
	}
	serve(t, l, "server2", ":80")
	client := l.Client("server1")
	for _, host := range []string{"10.10.2.102", "[fd10:2::102]"} {
		for _, size := range []int64{0, 1, 100, 1448, 1449, 70_000, 300 << 20} {
			d := download(t, client, "http://"+host, size)
			t.Logf("%s %d octets in %v: %.0f Mbit/s", host, size, d, float64(size)*8/d.Seconds()/1e6)
		}
	}
}

func TestTheManagementNetworkReachesEveryDaemonAndNoClient(t *testing.T) {
	l := bare(t, Options{Dispatchers: 2, Servers: 2})
	serve(t, l, ControllerHost, "10.99.0.1:80")
	for host, want := range map[string]bool{"switch": true, "dispatcher2": true, "server2": true, "client1": false} {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		c, err := l.Dial(host)(ctx, "tcp", "10.99.0.1:80")
		cancel()
		if err == nil {
			c.Close()
		}
		if (err == nil) != want {
			t.Errorf("connect from %s to the controller: %v, want success %v", host, err, want)
		}
	}
}

func TestCommandsSeeTheirHost(t *testing.T) {
	l := bare(t, Options{Servers: 1})
	out, err := l.Exec(t.Context(), "server1", "sh", "-c", "cd /sys/class/net && echo *; cat eth0/address; echo $SHUNT_CONTROLLER $SHUNT_LAB")
	if err != nil {
		t.Fatal(err)
	}
	want := fmt.Sprintf("eth0 lo mgmt0\n02:53:48:00:03:01\nunix:%s/controller.sock %s\n", pathsOf(l.Name()), l.Name())
	if string(out) != want {
		t.Errorf("got %q, want %q", out, want)
	}
	if _, err := l.Exec(t.Context(), "server1", "sh", "-c", "echo why >&2; exit 7"); err == nil || err.Error() != "run sh -c echo why >&2; exit 7 on server1: exit status 7: why" {
		t.Errorf("a command that fails: %v", err)
	}
	if _, err := l.Exec(t.Context(), "server9", "true"); err == nil {
		t.Error("a command ran on a host that does not exist")
	}
}

func TestDownEndsWhatRunsOnTheHosts(t *testing.T) {
	l := bare(t, Options{})
	var names []string
	for _, h := range l.st.Hosts {
		names = append(names, h.Netns)
	}
	if err := l.Do("client1", func() error { return nil }); err != nil {
		t.Fatal(err)
	}
	left := l.command(t, "client1", "sleep", "600")
	if found, err := Remove(t.Context(), l.Name()); err != nil || !found {
		t.Fatalf("remove: found %v, %v", found, err)
	}
	if err := left.Wait(); err == nil {
		t.Error("a command of the lab ended by itself")
	}
	if got, _ := netns.Names(netnsOf(l.Name())); len(got) > 0 {
		t.Errorf("namespaces are left: %v of %v", got, names)
	}
	if _, err := os.Stat(string(l.paths)); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the directory is left: %v", err)
	}
	if found, err := Remove(t.Context(), l.Name()); err != nil || found {
		t.Errorf("remove again: found %v, %v", found, err)
	}
	if _, err := Load(l.Name()); !errors.Is(err, ErrNoLab) {
		t.Errorf("load: %v, want %v", err, ErrNoLab)
	}
}

func TestTwoLabsOfOneNameAreRefused(t *testing.T) {
	l := bare(t, Options{})
	_, err := Up(t.Context(), Options{Name: l.Name()})
	if !errors.Is(err, os.ErrExist) {
		t.Fatalf("up: %v, want %v", err, os.ErrExist)
	}
	if _, err := l.Exec(t.Context(), "client1", "true"); err != nil {
		t.Errorf("the first lab: %v", err)
	}
}

func TestARateLimitsBothWays(t *testing.T) {
	testnet.NeedProgram(t, "ovs-vswitchd", "ovs-ofctl")
	l := bare(t, Options{Switch: SwitchOVS, Servers: 2, NICRate: 80e6})
	if err := l.startOVS(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := run(t.Context(), "ovs-ofctl", "add-flow", l.Info().Switch.OpenFlow, "actions=NORMAL"); err != nil {
		t.Fatal(err)
	}
	serve(t, l, "server2", ":80")
	const size = 10e6 // 1 s
	d := download(t, l.Client("server1"), "http://10.10.2.102", size)
	if d < 800*time.Millisecond || d > 3*time.Second {
		t.Errorf("%v octets at 80 Mbit/s took %v, want about 1 s", size, d)
	}
}

func (l *Lab) command(t *testing.T, host string, args ...string) *exec.Cmd {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), args[0], args[1:]...)
	if err := l.StartCommand(host, cmd); err != nil {
		t.Fatal(err)
	}
	return cmd
}

func TestOpenVSwitchConnectsWithACertificate(t *testing.T) {
	testnet.NeedProgram(t, "ovs-vswitchd")
	l := bare(t, Options{Switch: SwitchOVS, TLS: true, Servers: 1})
	if err := l.certify(); err != nil {
		t.Fatal(err)
	}
	trust := tlsconf.Files{Cert: l.paths.certificate(ControllerHost), Key: l.paths.key(ControllerHost), CA: l.paths.authority()}
	conf, err := trust.Server()
	if err != nil {
		t.Fatal(err)
	}
	var plain net.Listener
	if err := l.Do(ControllerHost, func() (err error) { plain, err = net.Listen("tcp", controllerAddress(openflowPort)); return err }); err != nil {
		t.Fatal(err)
	}
	listener := tls.NewListener(plain, conf)
	defer listener.Close()
	if err := l.startOVS(t.Context()); err != nil {
		t.Fatal(err)
	}
	plain.(*net.TCPListener).SetDeadline(time.Now().Add(10 * time.Second))
	c, err := listener.Accept()
	if err != nil {
		t.Fatalf("wait for the switch: %v", err)
	}
	defer c.Close()
	hello := make([]byte, 8)
	c.SetReadDeadline(time.Now().Add(10 * time.Second))
	if _, err := io.ReadFull(c, hello); err != nil {
		t.Fatalf("read the switch's first message: %v", err)
	}
	peer := c.(*tls.Conn).ConnectionState().PeerCertificates[0].Subject.CommonName
	if hello[1] != 0 || peer != SwitchHost {
		t.Errorf("the first message is %x from %q, want a HELLO from %q", hello, peer, SwitchHost)
	}
}
