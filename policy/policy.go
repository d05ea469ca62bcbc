// Package policy decides which server gets a request. A Model is what an operator
// wrote; Compile makes an Engine of it, on a State that outlives changes of the
// policy. It is pure: no I/O, and time and randomness come in through Options, so
// that the same calls give the same answers.
//
//	rule, ok := engine.Route(service, &request)
//	status, reason := rule.Admit(&request)            // 0, or what to answer
//	choice, ok := rule.Choose(&request, usable)       // then rule.Observe and rule.Learn
//	stays := rule.Accepts(&next, choice.Server)       // for a later request of the connection
package policy

import "sync"

// Picker chooses one of several servers, given by their names.
type Picker interface {
	// Pick returns one of the candidates that exclude does not name, or false
	// if there is none. A nil exclude excludes nobody; it is called at most once
	// per candidate and must not call Pick. Candidates are distinct and may
	// differ from call to call. Pick is safe for concurrent use.
	Pick(candidates []string, exclude func(string) bool) (string, bool)
}

// RoundRobin gives each server its turn: it picks the one whose last turn is
// the longest ago, and of those that never had one the first in the list. With
// the same candidates in every call that is the classical rotation. Unlike a
// counter it stays fair when candidates change or are excluded: no server
// inherits a neighbour's share, and one that returns gets one turn, not a
// backlog of them. The zero value is ready for use.
//
// One RoundRobin serves one service.
type RoundRobin struct {
	mu    sync.Mutex
	turn  uint64            // of the latest pick; guarded by mu
	turns map[string]uint64 // the last turn of each server, from 1; guarded by mu
}

var _ Picker = (*RoundRobin)(nil)

// Pick implements Picker. It looks at every candidate once.
func (r *RoundRobin) Pick(candidates []string, exclude func(string) bool) (string, bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	best, oldest := -1, uint64(0)
	for i, c := range candidates {
		if exclude != nil && exclude(c) {
			continue
		}
		if t := r.turns[c]; best < 0 || t < oldest {
			best, oldest = i, t
		}
	}
	if best < 0 {
		return "", false
	}
	if r.turns == nil {
		r.turns = make(map[string]uint64)
	}
	r.turn++
	r.turns[candidates[best]] = r.turn
	r.forget(candidates)
	return candidates[best], true
}

// forget drops servers that are gone once they outnumber those that are there,
// so that names that come and go do not add up.
func (r *RoundRobin) forget(candidates []string) {
	if len(r.turns) <= 2*len(candidates)+16 {
		return
	}
	kept := make(map[string]uint64, len(candidates))
	for _, c := range candidates {
		if t, ok := r.turns[c]; ok {
			kept[c] = t
		}
	}
	r.turns = kept
}
