package tracing

import "sync"

// bookSize is how many hand-offs a Book remembers: those of a few seconds under
// heavy load. The oldest give way.
const bookSize = 8192

// A Book remembers the traces of the latest hand-offs by their ids. The zero
// value is ready. Its methods may be called concurrently.
type Book struct {
	mu   sync.RWMutex // guards what follows
	byID map[string]Context
	ring []string // ids by age, from next on once it is full
	next int
}

// Put enters a hand-off.
func (b *Book) Put(id string, c Context) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if b.byID == nil {
		b.byID = make(map[string]Context)
	}
	if _, known := b.byID[id]; !known {
		if len(b.ring) < bookSize {
			b.ring = append(b.ring, id)
		} else {
			delete(b.byID, b.ring[b.next])
			b.ring[b.next] = id
			b.next = (b.next + 1) % bookSize
		}
	}
	b.byID[id] = c
}

// Get returns the hand-off's span; the zero Context if it is not known.
func (b *Book) Get(id string) Context {
	b.mu.RLock()
	defer b.mu.RUnlock()
	return b.byID[id]
}
