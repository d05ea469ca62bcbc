package policy

import (
	"maps"
	"math"
	"math/bits"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/policy/balance"
)

// Class is what a Learner tells requests of a route apart by, before their
// responses are known: the path, and the kind of path.
type Class struct {
	path uint32
	kind uint8
}

// ClassOf returns the class of a request.
func ClassOf(q *Request) Class {
	ext := q.Path[strings.LastIndexByte(q.Path, '/')+1:]
	if dot := strings.LastIndexByte(ext, '.'); dot >= 0 {
		ext = ext[dot:]
	} else {
		ext = ""
	}
	method := balance.NewHash().Add(q.Method)
	return Class{uint32(method.Add(q.Path).Sum()), uint8(method.AddLower(ext).Sum())}
}

// A Learner finds out for one route whether moving the connection pays. It
// remembers how big the responses of a class were (by path, else by method and
// extension, else all), and what either way has cost by size. Little responses
// are cheaper to copy, big ones to move away from; where the border is depends
// on the machines, the network and the way the application is attached, so it
// is measured. The cost is what the dispatcher adds to an answer and spends on it
// (see package dispatcher). Every sixteenth request, and more while little is known, goes the
// other way, so that it is found out when the border moves.
//
// The zero Learner knows nothing. It is safe for concurrent use.
type Learner struct {
	mu    sync.Mutex        // guards what follows
	paths [1024]sizeOf      // by a part of the path's hash
	kinds [256]estimate     // by method and extension
	all   estimate          // of the route
	cost  [2][sizes]average // by mode and size
}

// sizes is the number of size classes: up to 2^47 octets.
const sizes = 48

type sizeOf struct {
	path uint32
	size estimate
}

// estimate is a moving average of the binary logarithm of sizes; 0: none.
type estimate float32

func (e *estimate) take(octets uint64) {
	x := estimate(math.Log2(float64(octets)+1)) + 1
	if *e == 0 {
		*e = x
		return
	}
	*e += (x - *e) / 8
}

// average is a moving average of costs.
type average struct {
	mean float64
	n    uint32
}

// take takes in a cost. One that is far from the others counts as four times
// their mean: it is of something else that held the machine up.
func (a *average) take(x float64) {
	if a.n >= enough {
		x = min(x, 4*a.mean)
	}
	a.n = min(a.n+1, 32)
	a.mean += (x - a.mean) / float64(a.n)
}

// enough observations of a way to trust them.
const enough = 4

// Learn takes in what a request has cost: the octets of its response and the
// cost of bringing it about, in any unit that is the same for both modes. mode is
// Migrate or Proxy.
func (l *Learner) Learn(c Class, mode Mode, octets uint64, cost time.Duration) {
	if mode != Migrate && mode != Proxy {
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	p := &l.paths[c.path%uint32(len(l.paths))]
	if p.path != c.path {
		*p = sizeOf{path: c.path}
	}
	p.size.take(octets)
	l.kinds[c.kind].take(octets)
	l.all.take(octets)
	l.cost[mode-Migrate][min(bits.Len64(octets), sizes-1)].take(float64(cost))
}

// Decide returns Migrate or Proxy for a request of the class. random is any
// number; 0 asks for what seems best now and tries nothing out.
func (l *Learner) Decide(c Class, random uint64) Mode {
	l.mu.Lock()
	defer l.mu.Unlock()
	size := l.expect(c)
	move, known := l.estimate(Migrate, size)
	copying, alsoKnown := l.estimate(Proxy, size)
	best := Migrate
	switch {
	case known && alsoKnown && copying < move:
		best = Proxy
	case !known || !alsoKnown:
		// Half and half until both are known.
		if random>>63 == 1 {
			return Proxy
		}
		return Migrate
	}
	if random != 0 && random>>60 == 0 {
		return Migrate + Proxy - best
	}
	return best
}

// expect returns the size class of a response, -1: unknown.
func (l *Learner) expect(c Class) int {
	e := l.all
	if k := l.kinds[c.kind]; k != 0 {
		e = k
	}
	if p := &l.paths[c.path%uint32(len(l.paths))]; p.path == c.path && p.size != 0 {
		e = p.size
	}
	if e == 0 {
		return -1
	}
	return min(int(e-1+0.5), sizes-1)
}

// estimate returns the cost of a mode at a size: that of the nearest size that
// was observed often enough, and false if there is none or it is too far.
func (l *Learner) estimate(m Mode, size int) (float64, bool) {
	if size < 0 {
		return 0, false
	}
	list := &l.cost[m-Migrate]
	for d := range 3 { // a factor of 4 either way
		for _, s := range [2]int{size - d, size + d} {
			if s >= 0 && s < sizes && list[s].n >= enough {
				return list[s].mean, true
			}
		}
	}
	return 0, false
}

// Learn takes in what a choice in mode Auto has cost; see Learner.Learn. On
// other routes it does nothing.
func (r *Rule) Learn(c Choice, octets uint64, cost time.Duration) {
	if r.mode == Auto {
		r.state.learner.Learn(c.Class, c.Mode, octets, cost)
	}
}

// Learned is what a route in mode Auto has learnt.
type Learned struct {
	Service, Route string
	Sizes          []LearnedSize // smallest first
}

// LearnedSize is what either way has cost where responses have less than 1<<Bits
// octets, and half as many or more.
type LearnedSize struct {
	Bits          int
	Move, Copy    time.Duration // on average; 0 if Moved or Copied is
	Moved, Copied uint32        // observations that the average is of, at most 32
}

// Learned lists what is known, in the order of services' names and of routes;
// routes of which nothing is known are left out.
func (e *Engine) Learned() (out []Learned) {
	for _, name := range slices.Sorted(maps.Keys(e.services)) {
		s := e.services[name]
		for _, r := range s.rules {
			if r.mode != Auto {
				continue
			}
			if sizes := r.state.learner.sizes(); len(sizes) > 0 {
				out = append(out, Learned{name, r.Name, sizes})
			}
		}
	}
	return out
}

func (l *Learner) sizes() (out []LearnedSize) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for i := range sizes {
		move, copying := l.cost[0][i], l.cost[Proxy-Migrate][i]
		if move.n+copying.n > 0 {
			out = append(out, LearnedSize{i, time.Duration(move.mean), time.Duration(copying.mean), move.n, copying.n})
		}
	}
	return out
}
