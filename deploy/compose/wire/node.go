package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"time"

	"github.com/vishvananda/netlink"
	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"
)

// node is a container of the lab: its link, and what runs in it.
type node struct {
	Link link      `yaml:"link"`
	Run  []program `yaml:"run"` // at least one; when one ends, so do the others
}

// link is a container's place on the switch.
type link struct {
	Port      string         `yaml:"port"`
	MAC       string         `yaml:"mac"`
	Addresses []netip.Prefix `yaml:"addresses"`
	Gateways  []netip.Addr   `yaml:"gateways"` // one per family: default routes
}

// program is one that runs in a container.
type program struct {
	Command     []string          `yaml:"command"`
	User        string            `yaml:"user"`        // root if empty
	Environment map[string]string `yaml:"environment"` // beside the container's
}

func loadNode(path string) (node, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return node{}, fmt.Errorf("read what to join and run: %w", err)
	}
	return parseNode(path, text)
}

func parseNode(path string, text []byte) (node, error) {
	var n node
	d := yaml.NewDecoder(bytes.NewReader(text))
	d.KnownFields(true)
	if err := d.Decode(&n); err != nil {
		return node{}, fmt.Errorf("%s: %w", path, err)
	}
	var errs []error
	if n.Link.Port == "" {
		errs = append(errs, errors.New("link.port is missing: name the switch's port"))
	}
	if _, err := net.ParseMAC(n.Link.MAC); err != nil {
		errs = append(errs, fmt.Errorf("link.mac: %w", err))
	}
	if len(n.Link.Addresses) == 0 {
		errs = append(errs, errors.New("link.addresses is missing: give at least one, as 10.10.2.101/24"))
	}
	if len(n.Run) == 0 {
		errs = append(errs, errors.New("run is missing: give at least one command"))
	}
	for i, p := range n.Run {
		if len(p.Command) == 0 {
			errs = append(errs, fmt.Errorf("run[%d].command is missing", i))
		}
	}
	if err := errors.Join(errs...); err != nil {
		return node{}, fmt.Errorf("%s: %w", path, err)
	}
	return n, nil
}

// plug asks the panel for the link, again and again until there is a panel,
// and returns the connection to it. It ends when the panel does, and the link
// with it.
func plug(ctx context.Context, socket string, l link) (*net.UnixConn, error) {
	ns, err := os.Open("/proc/thread-self/ns/net")
	if err != nil {
		return nil, fmt.Errorf("open this container's network namespace: %w", err)
	}
	defer ns.Close()
	for {
		c, err := ask(ctx, socket, request{Port: l.Port, MAC: l.MAC}, ns)
		if err == nil {
			return c, nil
		}
		var refused refusal
		if errors.As(err, &refused) {
			return nil, err
		}
		t := time.NewTimer(200 * time.Millisecond)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return nil, fmt.Errorf("ask %s for a link: %w; last: %w", socket, ctx.Err(), err)
		}
	}
}

// refusal is what the panel says; asking again would not help.
type refusal string

func (r refusal) Error() string { return "the panel refused the link: " + string(r) }

func ask(ctx context.Context, socket string, r request, ns *os.File) (_ *net.UnixConn, err error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unixpacket", socket)
	if err != nil {
		return nil, err
	}
	c := conn.(*net.UnixConn)
	defer func() {
		if err != nil {
			c.Close()
		}
	}()
	if err := c.SetDeadline(time.Now().Add(10 * time.Second)); err != nil {
		return nil, err
	}
	if err := send(c, r, ns); err != nil {
		return nil, err
	}
	var a answer
	if _, err := receive(c, &a); err != nil {
		return nil, err
	}
	if a.Error != "" {
		return nil, refusal(a.Error)
	}
	return c, c.SetDeadline(time.Time{})
}

// configure sets addresses and default routes of this end of the link.
func (l link) configure() error {
	data, err := netlink.LinkByName(dataLink)
	if err != nil {
		return fmt.Errorf("find %s: %w", dataLink, err)
	}
	for _, p := range l.Addresses {
		a := &netlink.Addr{IPNet: ipNet(p)}
		if p.Addr().Is6() {
			a.Flags = unix.IFA_F_NODAD // nobody else can have it
		}
		if err := netlink.AddrAdd(data, a); err != nil {
			return fmt.Errorf("add %s to %s: %w", p, dataLink, err)
		}
	}
	if err := netlink.LinkSetUp(data); err != nil {
		return fmt.Errorf("set %s up: %w", dataLink, err)
	}
	for _, gw := range l.Gateways {
		all := netip.PrefixFrom(netip.IPv4Unspecified(), 0)
		if gw.Is6() {
			all = netip.PrefixFrom(netip.IPv6Unspecified(), 0)
		}
		r := &netlink.Route{LinkIndex: data.Attrs().Index, Dst: ipNet(all), Gw: gw.AsSlice()}
		if err := netlink.RouteReplace(r); err != nil {
			return fmt.Errorf("set the default route via %s: %w", gw, err)
		}
	}
	return nil
}

func ipNet(p netip.Prefix) *net.IPNet {
	return &net.IPNet{IP: p.Addr().AsSlice(), Mask: net.CIDRMask(p.Bits(), p.Addr().BitLen())}
}
