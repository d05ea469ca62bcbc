package main

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"slices"
	"sync"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// dataLink is the name of a container's end of its veth pair.
const dataLink = "data0"

// panel makes links for whoever connects to its socket. A link's end on this
// side is named like the switch's port.
type panel struct {
	log      *slog.Logger
	ports    []string // that may be asked for
	nl       *netlink.Handle
	listener *net.UnixListener

	mu    sync.Mutex // guards conns; held while links change
	conns map[*net.UnixConn]bool
}

// newPanel listens, and makes links in the namespace of the calling thread. A
// socket that a panel before this one left behind is replaced.
func newPanel(socket string, ports []string, log *slog.Logger) (*panel, error) {
	if err := os.Remove(socket); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the socket of the panel before: %w", err)
	}
	nl, err := netlink.NewHandle()
	if err != nil {
		return nil, fmt.Errorf("open netlink: %w", err)
	}
	l, err := net.ListenUnix("unixpacket", &net.UnixAddr{Name: socket, Net: "unixpacket"})
	if err != nil {
		nl.Close()
		return nil, fmt.Errorf("listen on %s: %w", socket, err)
	}
	return &panel{log: log, ports: ports, nl: nl, listener: l, conns: map[*net.UnixConn]bool{}}, nil
}

// run serves until the context ends. Links stay: they go with their namespaces.
func (p *panel) run(ctx context.Context) error {
	defer p.nl.Close()
	var serving sync.WaitGroup
	defer serving.Wait()
	done := make(chan struct{})
	defer close(done)
	defer p.close()
	defer context.AfterFunc(ctx, p.close)()
	serving.Go(func() { p.keepUp(done) })
	p.log.Info("waiting for nodes", "socket", p.listener.Addr().String(), "ports", p.ports)
	for {
		c, err := p.listener.AcceptUnix()
		if ctx.Err() != nil {
			return nil
		}
		if err != nil {
			return fmt.Errorf("accept on %s: %w", p.listener.Addr(), err)
		}
		p.mu.Lock()
		p.conns[c] = true
		p.mu.Unlock()
		serving.Go(func() { p.serve(c) })
	}
}

// close ends run and all that it has started.
func (p *panel) close() {
	p.listener.Close()
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		c.Close()
	}
}

// serve answers one node until it disconnects. A node stays connected for as
// long as it runs, so that it notices when its link's other end is gone.
func (p *panel) serve(c *net.UnixConn) {
	defer func() {
		c.Close()
		p.mu.Lock()
		delete(p.conns, c)
		p.mu.Unlock()
	}()
	for {
		var r request
		ns, err := receive(c, &r)
		if err != nil {
			return // gone, or no node
		}
		var a answer
		if err := p.link(r, ns); err != nil {
			p.log.Warn("link refused", "port", r.Port, "err", err)
			a.Error = err.Error()
		} else {
			p.log.Info("link made", "port", r.Port, "mac", r.MAC)
		}
		if ns != nil {
			ns.Close()
		}
		if send(c, a, nil) != nil {
			return
		}
	}
}

// link makes the veth pair of a port anew.
func (p *panel) link(r request, ns *os.File) error {
	if ns == nil {
		return errors.New("the request came without a namespace")
	}
	if !slices.Contains(p.ports, r.Port) {
		return fmt.Errorf("there is no port %q; ports are %v", r.Port, p.ports)
	}
	mac, err := net.ParseMAC(r.MAC)
	if err != nil {
		return err
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	// The pair of a container that was restarted goes with its old namespace,
	// but only once the kernel gets to it.
	if old, err := p.nl.LinkByName(r.Port); err == nil {
		if err := p.nl.LinkDel(old); err != nil && !errors.Is(err, unix.ENODEV) {
			return fmt.Errorf("remove the old link %s: %w", r.Port, err)
		}
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = r.Port
	attrs.Flags = net.FlagUp
	pair := &netlink.Veth{LinkAttrs: attrs, PeerName: dataLink, PeerHardwareAddr: mac, PeerNamespace: netlink.NsFd(ns.Fd())}
	if err := p.nl.LinkAdd(pair); err != nil {
		return fmt.Errorf("make the veth pair %s and %s: %w", r.Port, dataLink, err)
	}
	return nil
}

// keepUp sets ports up that somebody sets down, until done is closed. Open
// vSwitch does it unasked: it adds IFF_PROMISC to the flags that it has read a
// moment before, when the port was perhaps not up yet.
func (p *panel) keepUp(done <-chan struct{}) {
	updates := make(chan netlink.LinkUpdate)
	if err := netlink.LinkSubscribe(updates, done); err != nil {
		p.log.Error("cannot watch the links; a port that is set down stays down", "err", err)
		return
	}
	for u := range updates { // closed soon after done
		attrs := u.Attrs()
		if u.Header.Type != unix.RTM_NEWLINK || attrs.Flags&net.FlagUp != 0 || !slices.Contains(p.ports, attrs.Name) {
			continue
		}
		p.log.Info("a port was set down; setting it up", "port", attrs.Name)
		if err := p.nl.LinkSetUp(u.Link); err != nil && !errors.Is(err, unix.ENODEV) {
			p.log.Warn("set a port up", "port", attrs.Name, "err", err)
		}
	}
}
