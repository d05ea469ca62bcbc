package registry

import (
	"fmt"
	"strings"
	"sync"

	"google.golang.org/protobuf/proto"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Limits of one record of a hand-off.
const (
	// MaxID bounds a hand-off's id, octets.
	MaxID     = 128
	maxSteps  = 32
	maxReason = 512
	maxRecord = 16 << 10 // encoded
)

// Handoffs counts hand-offs since the process began and keeps the latest. Its
// methods may be called concurrently.
type Handoffs struct {
	keep int

	mu     sync.Mutex // guards what follows
	ring   []*shuntv1.Handoff
	next   int // position in ring of the oldest, once it is full
	counts Counts
}

// Counts is how many hand-offs ended in which way.
type Counts struct{ Completed, RolledBack, Failed uint64 }

// NewHandoffs keeps up to keep records.
func NewHandoffs(keep int) *Handoffs { return &Handoffs{keep: keep} }

// CheckHandoff reports what is wrong with the form of a record.
func CheckHandoff(m *shuntv1.Handoff) error {
	if m.GetId() == "" || len(m.Id) > MaxID {
		return fmt.Errorf("hand-off with an id of %d octets: want 1 to %d", len(m.GetId()), MaxID)
	}
	if _, _, err := m.Session.Ends(); err != nil {
		return fmt.Errorf("hand-off %s: %w", m.Id, err)
	}
	for _, s := range []string{m.Service, m.FromNode, m.ToNode} {
		if s != "" && !isName(s) {
			return fmt.Errorf("hand-off %s: %.80q is no name", m.Id, s)
		}
	}
	if m.Outcome < shuntv1.Outcome_OUTCOME_COMPLETED || m.Outcome > shuntv1.Outcome_OUTCOME_FAILED {
		return fmt.Errorf("hand-off %s: outcome %v is unknown", m.Id, m.Outcome)
	}
	if size := proto.Size(m); size > maxRecord {
		return fmt.Errorf("hand-off %s: record of %d octets, at most %d are taken", m.Id, size, maxRecord)
	}
	if len(m.Steps) > maxSteps {
		return fmt.Errorf("hand-off %s: %d steps, at most %d are taken", m.Id, len(m.Steps), maxSteps)
	}
	for _, s := range m.Steps {
		if !isName(s.GetName()) {
			return fmt.Errorf("hand-off %s: step %.80q is no name", m.Id, s.GetName())
		}
	}
	return nil
}

// Add takes a record that CheckHandoff accepts. The record must not be changed
// afterwards.
func (h *Handoffs) Add(m *shuntv1.Handoff) {
	if len(m.Reason) > maxReason {
		m = proto.CloneOf(m)
		m.Reason = strings.ToValidUTF8(m.Reason[:maxReason], "") + "…"
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	switch m.Outcome {
	case shuntv1.Outcome_OUTCOME_COMPLETED:
		h.counts.Completed++
	case shuntv1.Outcome_OUTCOME_ROLLED_BACK:
		h.counts.RolledBack++
	case shuntv1.Outcome_OUTCOME_FAILED:
		h.counts.Failed++
	}
	if len(h.ring) < h.keep {
		h.ring = append(h.ring, m)
		return
	}
	h.ring[h.next] = m
	h.next = (h.next + 1) % len(h.ring)
}

// Counts returns the counters.
func (h *Handoffs) Counts() Counts {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.counts
}

// Latest returns up to n records, newest first.
func (h *Handoffs) Latest(n int) []*shuntv1.Handoff {
	h.mu.Lock()
	defer h.mu.Unlock()
	out := make([]*shuntv1.Handoff, 0, min(n, len(h.ring)))
	for i := range cap(out) {
		out = append(out, h.ring[(h.next-1-i+2*len(h.ring))%len(h.ring)])
	}
	return out
}
