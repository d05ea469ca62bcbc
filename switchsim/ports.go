package switchsim

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"net"
	"path"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/switchsim/afpacket"
	"github.com/shunt-sdn/shunt/switchsim/pipeline"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// port is an interface that is a port of the switch.
type port struct {
	number uint32
	name   string
	mac    net.HardwareAddr
	socket *afpacket.Port
	since  time.Time

	config atomic.Uint32 // wire.PortConfig…
	up     atomic.Bool

	rxPackets, rxBytes, rxDropped atomic.Uint64
	txPackets, txBytes, txDropped atomic.Uint64
}

func (p *port) state() uint32 {
	if p.up.Load() {
		return wire.PortStateLive
	}
	return wire.PortStateLinkDown
}

// portTable holds the ports. Forwarding reads it without a lock.
type portTable struct {
	s  *Switch
	mu sync.Mutex // guards changes
	// numbers remembers the number of every name ever seen, so that flows stay
	// right when an interface comes back.
	numbers map[string]uint32
	wanted  map[string]bool // by AddPort or RemovePort; else the pattern says
	byNo    atomic.Pointer[map[uint32]*port]
	started bool
}

func newPortTable(s *Switch) *portTable {
	t := &portTable{s: s, numbers: map[string]uint32{}, wanted: map[string]bool{}}
	t.byNo.Store(&map[uint32]*port{})
	return t
}

func (t *portTable) get(number uint32) *port { return (*t.byNo.Load())[number] }

func (t *portTable) find(name string) *port {
	for _, p := range *t.byNo.Load() {
		if p.name == name {
			return p
		}
	}
	return nil
}

// all returns the ports by number.
func (t *portTable) all() []*port {
	return slices.SortedFunc(maps.Values(*t.byNo.Load()), func(a, b *port) int { return cmp.Compare(a.number, b.number) })
}

// AddPort makes an interface a port and returns its number. A name keeps its
// number for the life of the switch; adding a port that is there does nothing. If
// the interface vanishes and comes back, so does the port.
func (s *Switch) AddPort(name string) (uint32, error) {
	t := s.ports
	t.mu.Lock()
	defer t.mu.Unlock()
	number, err := t.open(name)
	if err == nil {
		t.wanted[name] = true
	}
	return number, err
}

// open makes an interface a port. The caller holds the lock.
func (t *portTable) open(name string) (uint32, error) {
	s := t.s
	if p := t.find(name); p != nil {
		return p.number, nil
	}
	var socket *afpacket.Port
	var up bool
	err := s.cfg.Enter(func() (err error) {
		if socket, err = afpacket.Open(name); err != nil {
			return err
		}
		ifi, err := net.InterfaceByName(name)
		up = err == nil && linkUp(uint32(ifi.Flags&net.FlagUp), ifi.Flags&net.FlagRunning != 0)
		return nil
	})
	if err != nil {
		return 0, fmt.Errorf("switchsim: %w", err)
	}
	number := t.numbers[name]
	if number == 0 {
		number = uint32(len(t.numbers) + 1)
		t.numbers[name] = number
	}
	p := &port{number: number, name: name, mac: socket.MAC, socket: socket, since: time.Now()}
	p.up.Store(up)
	t.replace(func(m map[uint32]*port) { m[number] = p })
	s.pipe.SetPort(p.pipelinePort(), time.Now())
	if t.started {
		s.goRun(func(ctx context.Context) { s.receive(ctx, p) })
	}
	s.announcePort(wire.PortAdded, p)
	s.cfg.Log.Info("port added", "port", name, "number", number, "up", up)
	return number, nil
}

// RemovePort makes an interface an ordinary one again. Flows that name its number
// stay. Removing a port that is not there does nothing.
func (s *Switch) RemovePort(name string) {
	t := s.ports
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wanted[name] = false
	t.close(name)
}

// close undoes open. The caller holds the lock.
func (t *portTable) close(name string) {
	s, p := t.s, t.find(name)
	if p == nil {
		return
	}
	t.replace(func(m map[uint32]*port) { delete(m, p.number) })
	s.pipe.RemovePort(p.number, time.Now())
	p.socket.Close()
	p.up.Store(false)
	s.announcePort(wire.PortDeleted, p)
	s.cfg.Log.Info("port removed", "port", name, "number", p.number)
}

func (t *portTable) replace(change func(map[uint32]*port)) {
	m := maps.Clone(*t.byNo.Load())
	change(m)
	t.byNo.Store(&m)
}

func (t *portTable) start() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.started = true
	for _, p := range t.all() {
		t.s.goRun(func(ctx context.Context) { t.s.receive(ctx, p) })
	}
}

func (t *portTable) closeAll() {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, p := range t.all() {
		p.socket.Close()
	}
}

func (p *port) pipelinePort() pipeline.Port {
	return pipeline.Port{Number: p.number, Config: p.config.Load(), Live: p.up.Load()}
}

// linkUp: a link carries packets when it is up and has a carrier.
func linkUp(up uint32, running bool) bool { return up != 0 && running }

// watchLinks follows the interfaces: links that go up and down, and interfaces
// that come and go by the port pattern.
func (s *Switch) watchLinks(ctx context.Context) error {
	updates := make(chan netlink.LinkUpdate, 64)
	done := make(chan struct{})
	err := s.cfg.Enter(func() error {
		return netlink.LinkSubscribeWithOptions(updates, done, netlink.LinkSubscribeOptions{ListExisting: true})
	})
	if err != nil {
		close(done)
		return fmt.Errorf("switchsim: watch the interfaces: %w", err)
	}
	defer func() {
		close(done)
		for range updates { // until the subscription's goroutine has ended
		}
	}()
	for {
		select {
		case <-ctx.Done():
			return nil
		case u, ok := <-updates:
			if !ok {
				return fmt.Errorf("switchsim: the kernel's stream of interface changes ended")
			}
			s.linkChanged(u)
		}
	}
}

func (s *Switch) linkChanged(u netlink.LinkUpdate) {
	t := s.ports
	t.mu.Lock()
	defer t.mu.Unlock()
	name := u.Attrs().Name
	p := t.find(name)
	current := p != nil && p.socket.Index == int(u.Index)
	if u.Header.Type == unix.RTM_DELLINK {
		if current {
			t.close(name)
		}
		return
	}
	if !current {
		wanted, told := t.wanted[name]
		if matches, _ := path.Match(s.cfg.PortPattern, name); told && !wanted || !told && !matches {
			return
		}
		t.close(name) // an earlier interface of the name
		if _, err := t.open(name); err != nil {
			s.cfg.Log.Warn("cannot take an interface as a port", "port", name, "err", err)
		}
		return
	}
	up := linkUp(u.IfInfomsg.Flags&unix.IFF_UP, u.IfInfomsg.Flags&unix.IFF_RUNNING != 0)
	if p.up.Swap(up) != up {
		s.pipe.SetPort(p.pipelinePort(), time.Now())
		s.announcePort(wire.PortModified, p)
		s.cfg.Log.Info("link changed", "port", name, "up", up)
	}
}
