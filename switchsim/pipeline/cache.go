package pipeline

import (
	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// cacheSize bounds the paths that one executor remembers.
const cacheSize = 8192

// A cache remembers by which flows packets with one key went, from the table
// where they entered to where they left the tables: the lookups are a function of
// the key and the table, as every field that an action reads is in the key. A
// path is used while the pipeline's version is the one that it was found under,
// or, on a switch that misbehaves so, for some time longer.
type cache struct{ paths map[pathKey]*path }

type pathKey struct {
	table uint8
	key   packet.Key
}

type path struct {
	version uint64
	stale   int64 // UnixNano when an outdated path ends; 0: it was not met outdated yet
	steps   []step
}

// step is a flow with what it did when the path was found.
type step struct {
	flow    *Flow
	program *wire.Instructions
}

func newCache() *cache { return &cache{paths: map[pathKey]*path{}} }

// cachedPath returns the path of the job's packet: a known one, or one that its
// walk fills in.
func (x *Executor) cachedPath(j *job) *path {
	if x.cache == nil {
		return &path{}
	}
	k := pathKey{j.table, j.pkt.Key}
	p := x.cache.paths[k]
	if p != nil && x.fresh(p) {
		return p
	}
	if p == nil && len(x.cache.paths) >= cacheSize {
		clear(x.cache.paths)
	}
	p = &path{version: x.p.version}
	x.cache.paths[k] = p
	return p
}

func (x *Executor) fresh(p *path) bool {
	if p.version == x.p.version {
		return true
	}
	if x.p.cfg.StaleCache == 0 {
		return false
	}
	if p.stale == 0 {
		p.stale = x.p.changed + int64(x.p.cfg.StaleCache)
	}
	return x.now.UnixNano() < p.stale
}

// step returns the flow of the i-th table of the path; nil: a table miss.
func (p *path) step(x *Executor, t *table, k *packet.Key, i int) (*Flow, *wire.Instructions) {
	if i == len(p.steps) {
		s := step{flow: t.lookup(k)}
		if s.flow != nil {
			s.program = s.flow.program
		}
		p.steps = append(p.steps, s)
	}
	return p.steps[i].flow, p.steps[i].program
}
