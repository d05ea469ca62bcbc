package steering

import (
	"fmt"
	"sync"
)

// Indexes allots the small numbers that marks are made of. A name keeps its
// number as long as marks with it may exist: also when the controller starts
// anew, if it is to find its sessions where they are.
type Indexes interface {
	// Index returns the number of a name of a kind, 1 to 65535, allotting one
	// at need.
	Index(kind, name string) (uint16, error)
}

// The kinds of names that have numbers.
const (
	KindNode    = "node"            // by name
	KindAddress = "session-address" // by address
)

// NewIndexes returns Indexes that are lost with the process. A controller that
// starts anew with them steers all sessions again, which meanwhile take the
// way over their homes or are sent on by the guards.
func NewIndexes() Indexes { return &memory{m: map[[2]string]uint16{}, last: map[string]uint16{}} }

type memory struct {
	mu   sync.Mutex
	m    map[[2]string]uint16
	last map[string]uint16
}

func (x *memory) Index(kind, name string) (uint16, error) {
	x.mu.Lock()
	defer x.mu.Unlock()
	k := [2]string{kind, name}
	if n, ok := x.m[k]; ok {
		return n, nil
	}
	if x.last[kind] == 0xffff {
		return 0, fmt.Errorf("number %s %q: all 65535 numbers are taken", kind, name)
	}
	x.last[kind]++
	x.m[k] = x.last[kind]
	return x.m[k], nil
}
