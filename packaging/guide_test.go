package packaging

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/internal/pages"
	"github.com/shunt-sdn/shunt/internal/testnet"
)

// site is what the guide finds: a bridge that others use, and three hosts.
type site struct {
	t        *testing.T
	hosts    map[string]*host
	vm1, vm2 *testnet.NS
}

func newSite(t *testing.T) *site {
	t.Helper()
	s := &site{t: t, hosts: map[string]*host{}}
	for _, name := range []string{"sw1", "node1", "node2", "client1"} {
		s.hosts[name] = newHost(t, name)
	}
	sw := s.hosts["sw1"]
	sw.run("ip link add mgmt type bridge && ip addr add 10.99.0.1/24 dev mgmt && ip link set mgmt up")
	for name, port := range map[string]string{"node1": "node1", "node2": "node2", "client1": "uplink"} {
		testnet.Veth(sw.ns, port, s.hosts[name].ns, "eth0")
	}
	for name, addr := range map[string]string{"node1": "10.99.0.11/24", "node2": "10.99.0.12/24"} {
		testnet.Veth(sw.ns, "m-"+name, s.hosts[name].ns, "mgmt0")
		sw.run("ip link set m-" + name + " master mgmt")
		s.hosts[name].ns.Addr("mgmt0", addr)
	}
	s.hosts["node1"].ns.Addr("eth0", "10.20.0.11/24")
	s.hosts["node2"].ns.Addr("eth0", "10.20.0.12/24")
	s.hosts["client1"].ns.Addr("eth0", "10.30.0.9/24")
	s.hosts["client1"].run("ip route add default via 10.30.0.1")
	s.startBridge()
	s.startApplication()
	return s
}

// startBridge starts an Open vSwitch with machines, flows and a controller of
// others.
func (s *site) startBridge() {
	s.t.Helper()
	sw := s.hosts["sw1"]
	s.vm1, s.vm2 = testnet.NewNS(s.t), testnet.NewNS(s.t)
	testnet.Veth(sw.ns, "vm1", s.vm1, "eth0")
	testnet.Veth(sw.ns, "vm2", s.vm2, "eth0")
	s.vm1.Addr("eth0", "192.168.7.1/24")
	s.vm2.Addr("eth0", "192.168.7.2/24")
	// The unit of Debian's package insists on the kernel's datapath.
	sw.run(`mkdir -p /run/openvswitch /etc/openvswitch /var/log/openvswitch
rm -f /etc/openvswitch/conf.db
ovsdb-tool create /etc/openvswitch/conf.db /usr/share/openvswitch/vswitch.ovsschema
ovsdb-server --detach --no-chdir --pidfile --log-file /etc/openvswitch/conf.db --remote=punix:/run/openvswitch/db.sock >/dev/null 2>&1
ovs-vsctl --no-wait init
ovs-vsctl --no-wait set Open_vSwitch . other_config:userspace-tso-enable=true
ovs-vsctl --no-wait add-br br0 -- set bridge br0 datapath_type=netdev other_config:disable-in-band=true -- set-fail-mode br0 secure
for p in uplink node1 node2 vm1 vm2; do ovs-vsctl --no-wait add-port br0 $p; done
ovs-vsctl --no-wait set-controller br0 tcp:127.0.0.1:6699
ovs-vswitchd --detach --no-chdir --pidfile --log-file unix:/run/openvswitch/db.sock >/dev/null 2>&1`)
	s.connectOther()
	sw.run(`ovs-ofctl -O OpenFlow13 add-flow br0 "table=0,priority=0,cookie=0x77,actions=NORMAL"
ovs-ofctl -O OpenFlow13 add-flow br0 "table=0,priority=500,cookie=0x77,in_port=vm1,actions=resubmit(,20)"
ovs-ofctl -O OpenFlow13 add-flow br0 "table=20,priority=1,cookie=0x77,actions=output:vm2"
ovs-ofctl -O OpenFlow13 add-flow br0 "table=0,priority=500,cookie=0x77,in_port=vm2,actions=output:vm1"`)
}

// connectOther is the controller that the bridge has already.
func (s *site) connectOther() {
	var l net.Listener
	s.hosts["sw1"].ns.Do(func() (err error) {
		if l, err = net.Listen("tcp", "127.0.0.1:6699"); err != nil {
			return err
		}
		return l.(*net.TCPListener).SetDeadline(time.Now().Add(patience))
	})
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan struct{})
	connected := make(chan error, 1)
	go func() {
		defer close(done)
		nc, err := l.Accept()
		if err != nil {
			connected <- err
			return
		}
		conn, err := openflow.Handshake(ctx, nc, openflow.Config{})
		connected <- err
		if err == nil {
			go func() {
				for range conn.Events() {
				}
			}()
			_ = conn.Run(ctx)
		}
	}()
	s.t.Cleanup(func() { cancel(); l.Close(); <-done })
	if err := <-connected; err != nil {
		s.t.Fatalf("the bridge does not connect to its controller: %v\n%s", err, s.hosts["sw1"].run("tail -n 20 /var/log/openvswitch/ovs-vswitchd.log; ovs-vsctl show"))
	}
}

// startApplication starts a web server that knows nothing of Shunt.
func (s *site) startApplication() {
	s.hosts["node2"].run(`mkdir -p /srv/www /run/www && echo hello from node2 >/srv/www/index.html && truncate -s 200M /srv/www/big
cat >/run/www/nginx.conf <<'END'
daemon on; pid /run/www/pid; error_log /run/www/error.log; user root;
events {}
http { access_log off; server { listen 8080; root /srv/www; } }
END
nginx -c /run/www/nginx.conf >/dev/null 2>&1`)
}

// others checks that the machines of others reach each other.
func (s *site) others() {
	s.t.Helper()
	var l net.Listener
	s.vm2.Do(func() (err error) {
		l, err = net.Listen("tcp4", "192.168.7.2:7")
		return err
	})
	defer l.Close()
	s.vm1.Do(func() error {
		c, err := net.DialTimeout("tcp4", "192.168.7.2:7", 10*time.Second)
		if err != nil {
			return fmt.Errorf("machines of others do not reach each other: %w", err)
		}
		return c.Close()
	})
}

// The documents whose commands are run.
const (
	guide      = "docs/deploy-next-to-ovs.md"
	operations = "docs/operations.md"
)

// TestGuide follows the guide word for word, and before its last part, leaving,
// what the operator's document says, while a client downloads.
func TestGuide(t *testing.T) {
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "ovs-vswitchd", "openssl", "curl", "nginx", "apt-get", "ss")
	pkg, next := build(t, older), build(t, newer)
	s := newSite(t)
	s.others()
	for _, name := range []string{"sw1", "node1", "node2"} {
		s.hosts[name].write("/root/shunt.deb", pkg.Deb)
		s.hosts[name].write("/root/next.deb", next.Deb)
	}
	for _, b := range s.blocks(guide) {
		switch {
		case strings.Contains(b.Text, "chgrp shunt"):
			s.copyCertificates()
		case strings.Contains(b.Text, "disable --now shunt-agent"):
			s.operate()
		}
		s.follow(b)
		s.others()
	}
	if got := strings.TrimSpace(s.hosts["sw1"].run("ovs-vsctl get-controller br0")); got != "tcp:127.0.0.1:6699" {
		t.Errorf("the bridge's controllers are %q in the end", got)
	}
	for _, name := range []string{"node1", "node2"} {
		if out := s.hosts[name].run("ip route show table local; ls /var/lib"); strings.Contains(out, "172.31.") || strings.Contains(out, "shunt") {
			t.Errorf("left on %s: %s", name, out)
		}
	}
}

// blocks returns the blocks for the site's hosts in one of the documents. No
// other page has some.
func (s *site) blocks(document string) (all []pages.Block) {
	s.t.Helper()
	for _, b := range blocks(s.t, slices.Collect(maps.Keys(s.hosts))...) {
		switch b.Page {
		case document:
			all = append(all, b)
		case guide, operations:
		default:
			s.t.Fatalf("%s: these hosts are those of %s and %s", b.At(), guide, operations)
		}
	}
	return all
}

// follow runs a block on its hosts.
func (s *site) follow(b pages.Block) {
	s.t.Helper()
	for _, name := range b.Places {
		h := s.hosts[name]
		if h == nil {
			s.t.Fatalf("%s: there is no host %s", b.At(), name)
		}
		began := time.Now()
		out, err := h.try("cd /root\n" + b.Text)
		s.t.Logf("%s: on %s: %v", b.At(), name, time.Since(began).Round(time.Millisecond))
		if err != nil {
			s.t.Fatalf("%s: on %s: %v\n%s\n%s", b.At(), name, err, b.Text, out)
		}
		if b.Page == guide && strings.Contains(b.Text, "shunt handoffs") && !strings.Contains(out, "completed") {
			s.t.Errorf("%s: no hand-off was completed:\n%s", b.At(), out)
		}
		if strings.Contains(b.Text, "curl") && !strings.Contains(out, "hello from node2") {
			s.t.Errorf("%s: the answer is %q", b.At(), out)
		}
	}
}

// copyCertificates does what the guide leaves to the administrator.
func (s *site) copyCertificates() {
	s.t.Helper()
	for name, own := range map[string]string{"sw1": "controller", "node1": "node1", "node2": "node2"} {
		for _, f := range []string{"ca.pem", own + ".pem", own + ".key"} {
			b, err := os.ReadFile(s.hosts["sw1"].path("/root/ca/" + f))
			if err != nil {
				s.t.Fatal(err)
			}
			s.hosts[name].write("/etc/shunt/"+f, b)
		}
	}
}

// operate follows the operator's document while a client downloads: what it
// says of upgrades must not cost a session.
func (s *site) operate() {
	s.t.Helper()
	client, sw := s.hosts["client1"], s.hosts["sw1"]
	d := s.download()
	sw.eventually("the download is handed off", func() error {
		if out := sw.run("shunt sessions"); !strings.Contains(out, "node2") {
			return errors.New(out)
		}
		return nil
	})
	for _, b := range s.blocks(operations) {
		if strings.Contains(b.Text, "shunt drain") {
			d.goOn() // it has outlived the controller's and the dispatcher's restart; drained it must not be cut off
		}
		s.follow(b)
	}
	sw.run("shunt export | grep -v '^#' | diff <(grep -v '^#' /root/backup.yaml) -") // leases as they were before the database was lost
	pid := s.hosts["node1"].pid("shunt-agent")
	if s.hosts["node1"].run(rotated(s.t)); s.hosts["node1"].pid("shunt-agent") != pid {
		s.t.Error("the agent did not survive the rotation of its access log")
	}
	if err := d.wait(); err != nil {
		s.t.Errorf("the download during the upgrade: %v", err)
	}
	for name, unit := range map[string]string{"sw1": "shunt-controller", "node1": "shunt-agent", "node2": "shunt-agent"} {
		if got := s.hosts[name].run("/proc/" + s.hosts[name].pid(unit) + "/exe --version"); !strings.Contains(got, newer) {
			s.t.Errorf("%s of %s runs %s", unit, name, got)
		}
	}
	client.eventually("new requests are answered", func() error {
		out, err := client.try("curl -sSf http://203.0.113.80/")
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
}

// A download is a client that reads slowly until it is told to go on.
type download struct {
	on, done chan struct{}
	err      error // set before done is closed
}

func (d *download) goOn() { close(d.on) }

func (d *download) wait() error {
	select {
	case <-d.done:
		return d.err
	case <-time.After(2 * patience):
		return errors.New("it does not end")
	}
}

// big is what is downloaded, octets.
const big = 200 << 20

func (s *site) download() *download {
	s.t.Helper()
	d := &download{on: make(chan struct{}), done: make(chan struct{})}
	var c net.Conn
	s.hosts["client1"].ns.Do(func() (err error) {
		c, err = net.DialTimeout("tcp4", "203.0.113.80:80", patience)
		return err
	})
	if _, err := io.WriteString(c, "GET /big HTTP/1.1\r\nHost: web\r\nConnection: close\r\n\r\n"); err != nil {
		s.t.Fatal(err)
	}
	go func() {
		defer close(d.done)
		defer c.Close()
		r, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			d.err = err
			return
		}
		defer r.Body.Close()
		slow := time.NewTicker(10 * time.Millisecond)
		defer slow.Stop()
		var n int64
		for {
			select {
			case <-d.on:
				rest, err := io.Copy(io.Discard, r.Body)
				if d.err = err; n+rest != big {
					d.err = errors.Join(err, fmt.Errorf("%d octets came, not %d", n+rest, big))
				}
				return
			case <-slow.C:
				m, err := io.CopyN(io.Discard, r.Body, 1<<10)
				if n += m; err != nil {
					d.err = fmt.Errorf("after %d octets: %w", n, err)
					return
				}
			}
		}
	}()
	return d
}
