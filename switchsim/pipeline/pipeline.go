package pipeline

import (
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// Config says how large a pipeline is, and how it misbehaves.
type Config struct {
	Tables        int           // 1 to 254
	TableCapacity int           // flows that one table holds; 0: no limit
	GroupCapacity int           // groups; 0: no limit
	Connections   int           // entries of the connection tracker; 0: a million
	StaleCache    time.Duration // how long packets that have a cached path keep it after the flows changed
}

// A Port is what the pipeline knows of a port.
type Port struct {
	Number uint32
	Config uint32 // wire.PortConfig…
	Live   bool
}

// A Pipeline holds the tables. Executors run packets under its read lock; all
// changes take its write lock.
type Pipeline struct {
	cfg Config

	mu       sync.RWMutex
	tables   []*table
	groups   map[uint32]*group
	ports    map[uint32]Port
	version  uint64 // grows with every change that may send packets elsewhere
	changed  int64  // UnixNano of the last change
	sequence uint64

	tracker *Tracker
}

// New returns an empty pipeline, which drops every packet.
func New(cfg Config) *Pipeline {
	if cfg.Connections == 0 {
		cfg.Connections = 1 << 20
	}
	p := &Pipeline{cfg: cfg, groups: map[uint32]*group{}, ports: map[uint32]Port{}, tracker: NewTracker(cfg.Connections)}
	for range cfg.Tables {
		p.tables = append(p.tables, newTable())
	}
	return p
}

// Tracker returns the connection tracker.
func (p *Pipeline) Tracker() *Tracker { return p.tracker }

// SetPort adds or changes a port.
func (p *Pipeline) SetPort(port Port, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.ports[port.Number] = port
	p.touch(now)
}

// RemovePort forgets a port. Flows that name it stay.
func (p *Pipeline) RemovePort(number uint32, now time.Time) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.ports, number)
	p.touch(now)
}

func (p *Pipeline) touch(now time.Time) {
	p.version++
	p.changed = now.UnixNano()
}

// TableStats describes one table.
type TableStats struct {
	Active           uint32
	Lookups, Matches uint64
}

// Tables returns the statistics of all tables.
func (p *Pipeline) Tables() []TableStats {
	p.mu.RLock()
	defer p.mu.RUnlock()
	out := make([]TableStats, len(p.tables))
	for i, t := range p.tables {
		out[i] = TableStats{uint32(t.count), t.lookups.Load(), t.matches.Load()}
	}
	return out
}

// Capacity is the number of flows that a table holds, as it is told to a controller.
func (p *Pipeline) Capacity() uint32 {
	if p.cfg.TableCapacity == 0 {
		return 1 << 20
	}
	return uint32(p.cfg.TableCapacity)
}

// refers reports whether a flow outputs to the port and the group of a filter
// (wire.PortAny, wire.GroupAny: whatever it does).
func refers(in *wire.Instructions, port, group uint32) bool {
	if port == wire.PortAny && group == wire.GroupAny {
		return true
	}
	hasPort, hasGroup := port == wire.PortAny, group == wire.GroupAny
	for _, list := range [][]wire.Action{in.Apply, in.Write} {
		for _, a := range list {
			switch a := a.(type) {
			case wire.Output:
				hasPort = hasPort || a.Port == port
			case wire.Group:
				hasGroup = hasGroup || a.ID == group
			}
		}
	}
	return hasPort && hasGroup
}
