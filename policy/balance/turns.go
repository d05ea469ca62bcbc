package balance

import "sync"

// Turns gives everybody turns in proportion to weights, evenly interleaved:
// stride scheduling (Waldspurger, Weihl, MIT TM-528, 1995). Whoever comes in
// begins half a stride late, which interleaves as smoothly as nginx's weighted
// round robin and costs O(log n). With equal weights it is round robin in the
// order of the list.
//
// The caller holds the lock for First, Spend, Len, At and SpendAt.
type Turns struct {
	sync.Mutex
	heap  []turn // the least first; guarded by Mutex
	start uint64 // pass of the latest turn; guarded by Mutex
}

type turn struct {
	pass, stride uint64
	key          int32 // of whom it is, across Turns
	position     int32
}

// stride of weight 1. Its quotient by a weight up to 10^8 has five digits.
const unit = 1 << 44

func (a turn) before(b turn) bool {
	return a.pass < b.pass || a.pass == b.pass && a.position < b.position
}

// NewTurns returns the turns of a list: key(i) is unique in it, weights[i] at
// most 10^8; those of weight 0 have none. Whoever had turns in old, which may
// be nil, goes on where it was.
func NewTurns(old *Turns, n int, key func(i int) int32, weights []uint32) *Turns {
	t := &Turns{heap: make([]turn, 0, n)}
	had := make(map[int32]turn)
	if old != nil {
		old.Lock()
		t.start = old.start
		for _, x := range old.heap {
			had[x.key] = x
		}
		old.Unlock()
	}
	for i := range n {
		if weights[i] == 0 {
			continue
		}
		x := turn{stride: unit / uint64(weights[i]), key: key(i), position: int32(i)}
		if h, ok := had[x.key]; ok && h.pass > t.start {
			// What is left of the way to its turn takes as long as the new weight says.
			x.pass = t.start + uint64(float64(h.pass-t.start)*(float64(x.stride)/float64(h.stride)))
		} else if ok {
			x.pass = h.pass
		} else {
			x.pass = t.start + x.stride/2
		}
		t.heap = append(t.heap, x)
	}
	for i := len(t.heap)/2 - 1; i >= 0; i-- {
		t.down(i)
	}
	return t
}

// Len is how many have turns.
func (t *Turns) Len() int { return len(t.heap) }

// First returns the position in the list whose turn it is. There must be one.
func (t *Turns) First() int { return int(t.heap[0].position) }

// Spend ends the turn of the first.
func (t *Turns) Spend() { t.SpendAt(0) }

// At returns the position in the list of one of the Len, in no useful order.
func (t *Turns) At(i int) int { return int(t.heap[i].position) }

// Before tells whether the turn of one of the Len comes before another's.
func (t *Turns) Before(i, j int) bool { return t.heap[i].before(t.heap[j]) }

// SpendAt ends the turn of one of the Len.
func (t *Turns) SpendAt(i int) {
	x := &t.heap[i]
	// Who let others go first has one turn to catch up, and no more.
	t.start = max(t.start, x.pass)
	x.pass = t.start + x.stride
	if x.pass > 1<<62 {
		t.rebase()
	}
	t.down(i)
}

// rebase keeps passes from overflowing.
func (t *Turns) rebase() {
	least := t.heap[0].pass
	for _, x := range t.heap {
		least = min(least, x.pass)
	}
	for i := range t.heap {
		t.heap[i].pass -= least
	}
	t.start -= min(least, t.start)
}

func (t *Turns) down(i int) {
	for {
		least, l := i, 2*i+1
		if l < len(t.heap) && t.heap[l].before(t.heap[least]) {
			least = l
		}
		if l+1 < len(t.heap) && t.heap[l+1].before(t.heap[least]) {
			least = l + 1
		}
		if least == i {
			return
		}
		t.heap[i], t.heap[least] = t.heap[least], t.heap[i]
		i = least
	}
}
