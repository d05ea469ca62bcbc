package fabric

import (
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// A controller that has just started does not know yet which dispatchers are
// up: their agents come back one by one. Were connections assigned anew each
// time, those that are not handed off yet would lose their home. So the
// assignment that a switch holds from an earlier run stays until all homes are
// up again, or until the fabric has settled.

// holdsHomes says whether the switch has an assignment of connections to homes.
func holdsHomes(flows []openflow.FlowStat) bool {
	for _, f := range flows {
		if f.Table == pipeline.TableHome && f.Priority > 0 {
			return true
		}
	}
	return false
}

// keepHomes replaces the assignment in want by the one that the switch holds,
// as far as it was found to be right.
func (c *channel) keepHomes(want pipeline.Set) {
	for k, f := range want {
		if f.Table == pipeline.TableHome && f.Priority > 0 {
			delete(want, k)
		}
	}
	for k, f := range c.installed {
		if f.Table == pipeline.TableHome {
			want[k] = f
		}
	}
}

// releaseHomes ends the holding when it is time.
func (c *channel) releaseHomes() {
	if c.holding && c.f.homesKnown(c.now()) {
		c.holding, c.dirty = false, true
	}
}

// homesKnown says whether it is known which homes are up.
func (f *Fabric) homesKnown(now time.Time) bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	if f.known {
		return true
	}
	f.known = !f.since.IsZero() && now.Sub(f.since) >= f.cfg.Settle || allUp(f.topology)
	return f.known
}

func allUp(t Topology) bool {
	for _, s := range t.Services {
		for _, h := range s.Homes {
			if !h.Up {
				return false
			}
		}
	}
	return true
}
