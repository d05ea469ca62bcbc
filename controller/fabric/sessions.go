package fabric

import (
	"errors"
	"net/netip"
	"slices"
	"sync"

	"github.com/shunt-sdn/shunt/controller/steering"
)

// Several switches may lead to the same nodes. Each of them is told of every
// session whose node it reaches, as the network may send a client's packets by
// any. Which of them has to know a session for its packets to be steered is
// another question; see decisive.

// Steer has a session's packets go to its node. done is called once, when the
// switches that decide it confirmed that (see decisive), or with an error: none
// of them is connected, one refused, or does not know the node. The session is
// remembered also then, and the other switches are told all the same. Requests
// for one session are carried out in the order of the calls.
func (f *Fabric) Steer(s Session, done func(error)) {
	told := f.reaching(s.Node)
	decisive := f.decisive(s.Client.Addr(), told)
	done = joint(len(decisive), done)
	for _, d := range f.devices {
		switch {
		case slices.Contains(decisive, d):
			d.sessions.Steer(s, done)
		case slices.Contains(told, d):
			d.sessions.Steer(s, nil)
		default: // the node that had the session may have been within its reach
			d.sessions.Unsteer(s.Key(), "", nil)
		}
	}
}

// Unsteer has a session's packets go home. With an id it does so only while the
// session is steered by that hand-off; "" is any. done is called as Steer's.
func (f *Fabric) Unsteer(client, vip netip.AddrPort, id string, done func(error)) {
	decisive := f.decisive(client.Addr(), f.devices)
	done = joint(len(decisive), done)
	for _, d := range f.devices {
		if slices.Contains(decisive, d) {
			d.sessions.Unsteer(steering.KeyOf(client, vip), id, done)
		} else {
			d.sessions.Unsteer(steering.KeyOf(client, vip), id, nil)
		}
	}
}

// reaching returns the switches that sessions on a node concern.
func (f *Fabric) reaching(node string) []*device {
	if len(f.devices) == 1 {
		return f.devices
	}
	return slices.DeleteFunc(slices.Clone(f.devices), func(d *device) bool { return !d.reaches(node) })
}

// decisive returns those of the switches told of a session by which its packets
// come in, as far as that is known:
//
//   - If the client is on a link of switches, those switches. There may be none
//     among told: then its packets go home.
//   - If not, it is behind a router, and they may come in by any.
//   - Of these, the switches that are ready, if there are any. One that is away
//     forwards nothing, or as before, and then a session that it was not told of
//     over home; it is told when it is back. So it neither holds up nor fails a
//     session.
func (f *Fabric) decisive(client netip.Addr, told []*device) []*device {
	if len(f.devices) == 1 {
		return told
	}
	client = client.Unmap()
	local := slices.ContainsFunc(f.devices, func(d *device) bool { return d.faces(client) })
	var all, ready []*device
	for _, d := range told {
		if local && !d.faces(client) {
			continue
		}
		all = append(all, d)
		if d.sessions.Attached() {
			ready = append(ready, d)
		}
	}
	if len(ready) > 0 {
		return ready
	}
	return all
}

// joint returns a function for n switches to call, each once. It calls done once:
// with nil if one of them confirmed and none failed, other than by being lost.
func joint(n int, done func(error)) func(error) {
	if done == nil {
		return nil
	}
	switch n {
	case 0:
		done(steering.ErrUnresolved)
		return nil
	case 1:
		return done
	}
	var mu sync.Mutex // guards what follows, and n
	var errs []error
	confirmed := false
	return func(err error) {
		mu.Lock()
		n--
		if err == nil {
			confirmed = true
		} else if !errors.Is(err, steering.ErrNoSwitch) {
			errs = append(errs, err)
		}
		last := n == 0
		mu.Unlock()
		if !last {
			return
		}
		if len(errs) == 0 && !confirmed {
			errs = append(errs, steering.ErrNoSwitch)
		}
		done(errors.Join(errs...))
	}
}

// End says that a session ended. Its steering goes after a linger, in which
// last packets still find the node, unless the session is steered again before.
func (f *Fabric) End(client, vip netip.AddrPort) {
	for _, d := range f.devices {
		d.sessions.End(steering.KeyOf(client, vip))
	}
}

// Replace sets all sessions that there are; steering of others is removed.
// Until it is called first, steering that is found in a switch is left alone.
func (f *Fabric) Replace(sessions []Session) {
	for _, d := range f.devices {
		var own []Session
		for _, s := range sessions {
			if d.reaches(s.Node) {
				own = append(own, s)
			}
		}
		d.sessions.Replace(own)
		signal(d.replaced)
	}
}

// A SessionPath is a session and how its packets travel.
type SessionPath struct {
	Session
	// Confirmed: the switches that decide it (see decisive) confirmed the
	// steering: the session is switched. Else its packets go over the home,
	// those at least that come in by one of these switches.
	Confirmed bool
}

// Sessions returns every steered session, in no particular order.
func (f *Fabric) Sessions() []SessionPath {
	type sighting struct {
		Session
		confirmed []*device
	}
	seen := map[steering.Key]*sighting{}
	for _, d := range f.devices {
		d.sessions.Paths(func(p steering.Path) {
			x := seen[p.Key()]
			if x == nil {
				x = &sighting{Session: p.Session}
				seen[p.Key()] = x
			}
			if p.Confirmed {
				x.confirmed = append(x.confirmed, d)
			}
		})
	}
	all := make([]SessionPath, 0, len(seen))
	for _, x := range seen {
		decisive := f.decisive(x.Client.Addr(), f.reaching(x.Node))
		lacks := slices.ContainsFunc(decisive, func(d *device) bool { return !slices.Contains(x.confirmed, d) })
		all = append(all, SessionPath{x.Session, len(decisive) > 0 && !lacks})
	}
	return all
}
