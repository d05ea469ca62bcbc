package steering

import (
	"errors"
	"fmt"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// Attaching says that a switch connected and is being made ready: requests wait
// for it, for at most Patience, instead of failing.
func (s *Sessions) Attaching() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.attaching = true
}

// Attach replays all sessions to a switch that is ready. flows are the session
// flows that it holds: right ones are left alone. It returns those that nobody
// speaks for any more, and that the method cannot remove: the caller deletes
// them.
func (s *Sessions) Attach(c Channel, m Method, resolve Resolver, flows []openflow.FlowStat) (stale []openflow.FlowStat) {
	s.mu.Lock()
	s.epoch++
	s.channel, s.method, s.resolve, s.attaching = c, m, resolve, false
	s.inFlight, s.backlog = 0, nil
	for _, r := range s.records {
		r.confirmed, r.inFlight, r.queued, r.retryAt = 0, false, false, time.Time{}
		if r.steered && r.session.Node == "" {
			r.confirmed = r.version // lingers; nothing to tell
		}
	}
	stale, calls := s.adopt(flows)
	jobs := s.nextAll()
	s.unlockAndRun(append(jobs, calls...))
	return stale
}

// Adopt compares the session flows that the switch holds with the sessions, as
// Attach does, and has the switch forget those that are no sessions. Before
// Replace it does nothing.
func (s *Sessions) Adopt(flows []openflow.FlowStat) (stale []openflow.FlowStat) {
	s.mu.Lock()
	stale, calls := s.adopt(flows)
	s.unlockAndRun(append(s.nextAll(), calls...))
	return stale
}

// adopt takes over what the switch holds. s.mu is held.
func (s *Sessions) adopt(flows []openflow.FlowStat) (stale []openflow.FlowStat, jobs []job) {
	if s.method == nil {
		return nil, nil
	}
	for _, f := range flows {
		client, vip, err := pipeline.SessionEnds(f.Match)
		k := KeyOf(client, vip)
		r, ok := s.records[k]
		switch {
		case err != nil || s.method.PerNode():
			if s.complete {
				stale = append(stale, f)
			}
		case ok:
			r.told = true
			if to, known := s.resolve(r.session); known && r.steered && !r.inFlight && r.session.Node != "" && flowOf(r.session, to).Cookie == f.Cookie {
				r.confirmed = r.version
				jobs = append(jobs, job{waiters: answered(r, r.version)})
			}
		case s.complete:
			r := s.add(k)
			r.told = true // not steered: the next step is to remove it
		}
	}
	return stale, jobs
}

// Detach says that the channel ended. Requests under way fail; sessions are
// remembered.
func (s *Sessions) Detach() {
	s.mu.Lock()
	s.epoch++
	s.channel, s.attaching = nil, false
	clear(s.waiting)
	clear(s.refused)
	s.inFlight, s.backlog = 0, nil
	var failed []job
	for k, r := range s.records {
		r.confirmed, r.inFlight, r.queued = 0, false, false
		if len(r.waiters) > 0 {
			failed = append(failed, job{waiters: r.waiters, err: ErrNoSwitch})
			r.waiters = nil
		}
		if !r.steered && !r.told {
			delete(s.records, k)
		}
	}
	s.unlockAndRun(failed)
}

// Retarget says that the way to nodes changed or became known; all is for every
// node. Sessions that wait for it go on, and those that name a node's hardware
// address are told again.
func (s *Sessions) Retarget(all bool, nodes map[string]bool) {
	s.mu.Lock()
	var jobs []job
	for k, r := range s.records {
		if !r.steered || r.session.Node == "" || !(all || nodes[r.session.Node]) {
			continue
		}
		if r.confirmed == r.version && s.method != nil && !s.method.PerNode() {
			r.version = s.nextVersion()
		}
		r.retryAt = time.Time{}
		jobs = s.next(jobs, k, r)
	}
	s.unlockAndRun(jobs)
}

// Tick does what is due: ends of lingers, of patience, and what the switch
// refused before. It is to be called several times a second.
func (s *Sessions) Tick() {
	s.mu.Lock()
	now := s.now()
	var jobs []job
	due := 0
	for ; due < len(s.ending) && !now.Before(s.ending[due].at); due++ {
		d := s.ending[due]
		if r, ok := s.records[d.key]; ok && r.version == d.version {
			s.clear(d.key, r)
			jobs = s.next(jobs, d.key, r)
		}
	}
	s.ending = s.ending[due:]
	if len(s.ending) == 0 {
		s.ending = nil
	}
	for k, since := range s.waiting {
		if now.Sub(since) < Patience {
			continue
		}
		delete(s.waiting, k)
		if r, ok := s.records[k]; ok && len(r.waiters) > 0 {
			err := ErrUnresolved
			if s.channel == nil {
				err = ErrNoSwitch
			}
			jobs = append(jobs, job{waiters: r.waiters, err: err})
			r.waiters = nil
		}
	}
	for k := range s.refused {
		r, ok := s.records[k]
		if !ok {
			delete(s.refused, k)
		} else if !now.Before(r.retryAt) {
			delete(s.refused, k)
			jobs = s.next(jobs, k, r)
		}
	}
	s.unlockAndRun(jobs)
}

// A job is what is to be done without the lock: messages for the switch, or
// waiters to be told.
type job struct {
	key      Key
	record   *record
	version  uint64
	epoch    uint64
	channel  Channel
	messages Messages

	waiters []waiter // told err, or nil if that is nil
	err     error
}

// next appends what is to be done next for a session. s.mu is held.
func (s *Sessions) next(jobs []job, k Key, r *record) []job {
	if r.inFlight || r.confirmed == r.version || r.steered && r.session.Node == "" {
		return jobs
	}
	if s.channel == nil {
		if s.attaching {
			s.wait(k)
		}
		return jobs
	}
	if s.now().Before(r.retryAt) {
		return jobs
	}
	if s.inFlight >= window {
		if !r.queued {
			r.queued = true
			s.backlog = append(s.backlog, k)
		}
		return jobs
	}
	var m Messages
	if r.steered {
		to, ok := s.resolve(r.session)
		if !ok {
			s.wait(k)
			return jobs
		}
		var err error
		if m, err = s.method.Steer(r.session, to); err != nil {
			jobs = append(jobs, job{waiters: r.waiters, err: err})
			r.waiters = nil
			return jobs
		}
	} else {
		m = s.method.Unsteer(r.session)
	}
	delete(s.waiting, k)
	r.inFlight, r.told = true, true
	s.inFlight++
	return append(jobs, job{key: k, record: r, version: r.version, epoch: s.epoch, channel: s.channel, messages: m})
}

func (s *Sessions) nextAll() (jobs []job) {
	for k, r := range s.records {
		jobs = s.next(jobs, k, r)
	}
	return jobs
}

func (s *Sessions) wait(k Key) {
	if _, ok := s.waiting[k]; !ok {
		s.waiting[k] = s.now()
	}
}

// unlockAndRun releases s.mu and does the jobs.
func (s *Sessions) unlockAndRun(jobs []job) {
	s.mu.Unlock()
	for _, j := range jobs {
		for _, w := range j.waiters {
			w.done(j.err)
		}
		if j.channel != nil {
			j.channel.ApplyAsync(j.messages.Mods, j.messages.Outs, func(err error) { s.finish(j, err) })
		}
	}
}

// finish takes the switch's answer.
func (s *Sessions) finish(j job, err error) {
	s.mu.Lock()
	if j.epoch != s.epoch {
		s.mu.Unlock()
		return
	}
	if errors.Is(err, openflow.ErrClosed) { // Detach follows
		err = fmt.Errorf("%w: %w", ErrNoSwitch, err)
	}
	r := j.record
	r.inFlight = false
	s.inFlight--
	told := answered(r, j.version)
	current := s.records[j.key] == r && r.version == j.version
	if err == nil {
		r.confirmed = j.version
		if current && !r.steered {
			delete(s.records, j.key)
		}
	} else if current {
		r.retryAt = s.now().Add(retryAfter)
		s.refused[j.key] = struct{}{}
	}
	jobs := []job{{waiters: told}}
	if len(told) > 0 && told[0].version < j.version { // older ones were never carried out
		older := 0
		for older < len(told) && told[older].version < j.version {
			older++
		}
		jobs = []job{{waiters: told[:older], err: ErrReplaced}, {waiters: told[older:]}}
	}
	jobs[len(jobs)-1].err = err
	if !current && s.records[j.key] == r {
		jobs = s.next(jobs, j.key, r)
	}
	s.unlockAndRun(s.drain(jobs))
}

// drain sends on what waited for room. s.mu is held.
func (s *Sessions) drain(jobs []job) []job {
	for len(s.backlog) > 0 && s.inFlight < window {
		k := s.backlog[0]
		s.backlog = s.backlog[1:]
		if r, ok := s.records[k]; ok {
			r.queued = false
			jobs = s.next(jobs, k, r)
		}
	}
	if len(s.backlog) == 0 {
		s.backlog = nil
	}
	return jobs
}

// answered takes out the waiters of a version and of earlier ones.
func answered(r *record, version uint64) []waiter {
	n := 0
	for n < len(r.waiters) && r.waiters[n].version <= version {
		n++
	}
	told := r.waiters[:n:n]
	r.waiters = r.waiters[n:]
	if len(r.waiters) == 0 {
		r.waiters = nil
	}
	return told
}
