package server

import (
	"sync"
	"time"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// fate of a hand-off at its target.
type fate uint8

const (
	pending    fate = iota // being restored; may still be declared absent
	activating             // past the point of no return: will be imported or refused in a moment
	imported
	refused
)

// A verdict is what the target knows of one hand-off.
type verdict struct {
	fate   fate
	result *shuntv1.ImportResult // once imported or refused
	done   chan struct{}         // closed then
	at     time.Time             // when it was entered
}

// A ledger remembers hand-offs for as long as a repetition or a question can
// come on the heels of one. What is older is settled by the kernel's sockets.
type ledger struct {
	keep time.Duration
	now  func() time.Time

	mu    sync.Mutex
	byID  map[string]*verdict
	order []string      // by age
	era   chan struct{} // closed when all that came in it was renounced
}

func newLedger(keep time.Duration, now func() time.Time) *ledger {
	return &ledger{keep: keep, now: now, byID: make(map[string]*verdict), era: make(chan struct{})}
}

// present returns the era, which is over when the channel is closed.
func (l *ledger) present() <-chan struct{} {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.era
}

// renounce ends the era. Hand-offs that are pending are refused; it returns when
// those that are past the point of no return are settled.
func (l *ledger) renounce() {
	var activated []*verdict
	l.mu.Lock()
	close(l.era)
	l.era = make(chan struct{})
	for id, v := range l.byID {
		switch v.fate {
		case pending:
			l.refuse(v, id, "this node was given up")
		case activating:
			activated = append(activated, v)
		}
	}
	l.mu.Unlock()
	for _, v := range activated {
		<-v.done
	}
}

// refuse settles a pending hand-off. l.mu is held.
func (l *ledger) refuse(v *verdict, id, reason string) {
	v.fate = refused
	v.result = &shuntv1.ImportResult{Id: id, Outcome: shuntv1.ImportOutcome_IMPORT_OUTCOME_REFUSED, Reason: reason}
	close(v.done)
}

// begin enters a hand-off that came in an era. If it is known already, or the era
// is over, it returns what is known, and false.
func (l *ledger) begin(id string, era <-chan struct{}) (*verdict, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v := l.byID[id]; v != nil {
		return v, false
	}
	v := l.enter(id)
	if era != l.era {
		l.refuse(v, id, "this node was given up")
		return v, false
	}
	return v, true
}

func (l *ledger) enter(id string) *verdict {
	now := l.now()
	for len(l.order) > 0 {
		oldest := l.byID[l.order[0]]
		if now.Sub(oldest.at) < l.keep || oldest.fate < imported {
			break
		}
		delete(l.byID, l.order[0])
		l.order = l.order[1:]
	}
	v := &verdict{done: make(chan struct{}), at: now}
	l.byID[id] = v
	l.order = append(l.order, id)
	return v
}

// activate moves a pending hand-off past the point of no return, unless it was
// declared absent or its deadline, judged by expired, is over.
func (l *ledger) activate(v *verdict, expired func() bool) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v.fate != pending || expired() {
		return false
	}
	v.fate = activating
	return true
}

// settle records how it ended. A hand-off that was declared absent meanwhile
// stays so.
func (l *ledger) settle(v *verdict, r *shuntv1.ImportResult) *shuntv1.ImportResult {
	l.mu.Lock()
	defer l.mu.Unlock()
	if v.fate == imported || v.fate == refused {
		return v.result
	}
	v.fate = refused
	if r.Outcome == shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED {
		v.fate = imported
	}
	v.result = r
	close(v.done)
	return r
}

// resolve answers what became of a hand-off, and sees to it that the answer
// stays true: one that is unknown or pending is refused from now on. The
// channel, if not nil, must be waited for, and resolve called again. held tells
// whether the kernel has a socket of the session, for a hand-off that was
// imported before this process began. If it cannot tell, nothing is decided.
func (l *ledger) resolve(id string, held func() (bool, error)) (shuntv1.Resolution, <-chan struct{}, error) {
	l.mu.Lock()
	defer l.mu.Unlock()
	v := l.byID[id]
	if v == nil {
		is, err := held()
		if err != nil {
			return shuntv1.Resolution_RESOLUTION_UNSPECIFIED, nil, err
		}
		v = l.enter(id)
		if is {
			v.fate = imported
			v.result = &shuntv1.ImportResult{Id: id, Outcome: shuntv1.ImportOutcome_IMPORT_OUTCOME_IMPORTED}
			close(v.done)
		}
	}
	switch v.fate {
	case pending:
		l.refuse(v, id, "the source gave up")
		return shuntv1.Resolution_RESOLUTION_ABSENT, nil, nil
	case activating:
		return shuntv1.Resolution_RESOLUTION_UNSPECIFIED, v.done, nil
	case imported:
		return shuntv1.Resolution_RESOLUTION_IMPORTED, nil, nil
	default:
		return shuntv1.Resolution_RESOLUTION_ABSENT, nil, nil
	}
}
