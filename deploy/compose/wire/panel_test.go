package main

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"net"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var quiet = slog.New(slog.DiscardHandler)

// startPanel runs a panel whose links are in ns, and returns its socket.
func startPanel(t *testing.T, ns *testnet.NS, ports ...string) string {
	t.Helper()
	socket := filepath.Join(t.TempDir(), "panel.sock")
	var p *panel
	if err := ns.Try(func() (err error) {
		p, err = newPanel(socket, ports, quiet)
		return err
	}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- p.run(ctx) }()
	t.Cleanup(func() {
		cancel()
		if err := <-done; err != nil {
			t.Errorf("panel: %v", err)
		}
	})
	return socket
}

// join does in ns what `wire node` does.
func join(t *testing.T, ns *testnet.NS, socket string, l link) (net.Conn, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	var cord net.Conn
	err := ns.Try(func() error {
		c, err := plug(ctx, socket, l)
		if err != nil {
			return err
		}
		cord = c
		return l.configure()
	})
	return cord, err
}

func server1(t *testing.T) link {
	t.Helper()
	n, err := parseNode("node.yaml", []byte(small))
	if err != nil {
		t.Fatal(err)
	}
	return n.Link
}

func TestALinkJoinsTheNodesNamespaceToThePanels(t *testing.T) {
	testnet.NeedRoot(t)
	sw, node := testnet.NewNS(t), testnet.NewNS(t)
	socket := startPanel(t, sw, "server1")
	l := server1(t)
	for range 2 { // the second time as after a restart: the old pair may be there still
		cord, err := join(t, node, socket, l)
		if err != nil {
			t.Fatal(err)
		}
		defer cord.Close()
		if got := node.MAC(dataLink).String(); got != l.MAC {
			t.Errorf("%s has %s, want %s", dataLink, got, l.MAC)
		}
		for _, a := range []string{"10.10.2.101", "fd10:2::101"} {
			if out := node.Run("ip", "-oneline", "address", "show", dataLink); !strings.Contains(out, a+"/") {
				t.Errorf("%s lacks %s:\n%s", dataLink, a, out)
			}
		}
		if out := node.Run("ip", "route", "show", "default"); !strings.Contains(out, "via 10.10.2.1 ") {
			t.Errorf("default route: %s", out)
		}
		port, err := sw.Link.LinkByName("server1")
		if err != nil {
			t.Fatal(err)
		}
		if port.Attrs().Flags&net.FlagUp == 0 {
			t.Error("the port is down")
		}
	}
}

func TestPortsThatNobodyListedAreRefused(t *testing.T) {
	testnet.NeedRoot(t)
	sw, node := testnet.NewNS(t), testnet.NewNS(t)
	socket := startPanel(t, sw, "server2")
	_, err := join(t, node, socket, server1(t))
	var refused refusal
	if !errors.As(err, &refused) || !strings.Contains(err.Error(), `no port "server1"`) {
		t.Errorf("%v, want a refusal that names the port", err)
	}
}

func TestANodeEndsWhenThePanelDoes(t *testing.T) {
	panelEnd, cord := net.Pipe()
	defer cord.Close()
	n := node{Run: []program{{Command: []string{"sleep", "60"}}}}
	done := make(chan error, 1)
	go func() { done <- n.run(t.Context(), cord, quiet) }()
	panelEnd.Close()
	if err := <-done; !errors.Is(err, errUnplugged) {
		t.Errorf("%v, want %v", err, errUnplugged)
	}
}

func TestANodeEndsWithAnyOfItsPrograms(t *testing.T) {
	panelEnd, cord := net.Pipe()
	defer panelEnd.Close()
	defer cord.Close()
	n := node{Run: []program{{Command: []string{"sleep", "60"}}, {Command: []string{"sh", "-c", `test "$WHO" = me && exit 3`}, Environment: map[string]string{"WHO": "me"}}}}
	err := n.run(t.Context(), cord, quiet)
	if err == nil || err.Error() != "run sh: exit status 3" {
		t.Errorf("%v, want that sh ended with 3", err)
	}
}

// A web server that is not root opens /dev/stdout, for its log.
func TestAProgramOfAnotherUserOpensItsOutput(t *testing.T) {
	testnet.NeedRoot(t)
	c, err := credential("nobody")
	if err != nil {
		t.Fatal(err)
	}
	o := &output{}
	if err := o.pipe(c); err != nil {
		t.Fatal(err)
	}
	var got []byte
	o.copying.Go(func() { got, _ = io.ReadAll(o.r) })
	cmd := exec.CommandContext(t.Context(), "sh", "-c", "echo reopened >/dev/stdout")
	cmd.SysProcAttr = &syscall.SysProcAttr{Credential: c}
	cmd.Stdout, cmd.Stderr = o.w, o.w
	err = cmd.Run()
	o.close()
	if err != nil {
		t.Fatal(err)
	}
	if string(got) != "reopened\n" {
		t.Errorf("%q, want what it wrote", got)
	}
}
