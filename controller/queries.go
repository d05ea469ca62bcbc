package controller

import (
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/controller/api"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// queryLife is how long an answer to a query is still understood.
const queryLife = time.Minute

// queries are the lists of sessions that agents have been asked for. The zero
// value is ready.
type queries struct {
	mu   sync.Mutex // guards what follows
	last uint64
	open map[uint64]query
}

type query struct {
	node  string
	asked time.Time
	reply func([]api.Held) // nil: nobody waits
}

// ask returns the question for a node. The answer goes to reply, if there is
// one, from the goroutine that receives it.
func (q *queries) ask(node string, now time.Time, reply func([]api.Held)) *shuntv1.AttachResponse {
	q.mu.Lock()
	defer q.mu.Unlock()
	if q.open == nil {
		q.open = make(map[uint64]query)
	}
	q.last++
	q.open[q.last] = query{node, now, reply}
	return &shuntv1.AttachResponse{Message: &shuntv1.AttachResponse_Snapshot{Snapshot: &shuntv1.SnapshotQuery{Query: q.last}}}
}

// answer takes a list and returns the time of which it is certainly not older:
// when it was asked for, or now if it came unasked.
func (q *queries) answer(number uint64, node string, held []api.Held, now time.Time) (asked time.Time) {
	q.mu.Lock()
	x, ok := q.open[number]
	ok = ok && x.node == node
	if ok {
		delete(q.open, number)
	}
	q.mu.Unlock()
	if !ok {
		return now
	}
	if x.reply != nil {
		x.reply(held)
	}
	return x.asked
}

// expire forgets queries that were not answered.
func (q *queries) expire(now time.Time) {
	q.mu.Lock()
	defer q.mu.Unlock()
	for n, x := range q.open {
		if now.Sub(x.asked) > queryLife {
			delete(q.open, n)
		}
	}
}
