package dispatcher

import (
	"sync"
	"time"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// record is the account of one hand-off. It is sent when both the session and
// the steering, which go on concurrently, are through with it.
type record struct {
	mu    sync.Mutex
	begun time.Time
	last  time.Time     // end of the last step
	held  time.Duration // the target kept its answer back
	parts int           // who may still write
	msg   *shuntv1.Handoff

	settled func() // the hand-off is through, and the controller knows of it
}

func newRecord(begun time.Time, s *session, to string) *record {
	e := ends{s.client, s.local}
	s.d.move(e, 1)
	return &record{settled: func() { s.d.move(e, -1) }, begun: begun, last: begun, parts: 1, msg: &shuntv1.Handoff{
		Id: s.id, Session: shuntv1.SessionOf(s.client, s.local), Service: s.service.Name,
		FromNode: s.d.o.Node, ToNode: to, StartedUnixNano: begun.UnixNano(),
	}}
}

// step records what was done since the last step.
func (r *record) step(name string) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.msg.Steps = append(r.msg.Steps, &shuntv1.Step{Name: name, DurationUs: micros(now.Sub(r.last))})
	r.last = now
}

// add records what went on beside the steps.
func (r *record) add(name string, d time.Duration) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.msg.Steps = append(r.msg.Steps, &shuntv1.Step{Name: name, DurationUs: micros(d)})
}

// imported records the target's answer, which it has kept back for so long; nil: it
// was got by asking.
func (r *record) imported(res *shuntv1.ImportResult, held time.Duration) {
	now := time.Now()
	r.mu.Lock()
	defer r.mu.Unlock()
	r.held = min(held, now.Sub(r.last))
	r.msg.AnswerHeldUs = micros(r.held)
	r.msg.Steps = append(r.msg.Steps, &shuntv1.Step{Name: "imported", DurationUs: micros(now.Sub(r.last) - r.held)})
	r.last = now
	r.msg.TotalUs = micros(now.Sub(r.begun) - r.held)
	if res != nil {
		r.msg.Steps = append(r.msg.Steps,
			&shuntv1.Step{Name: "restore", DurationUs: res.RestoreUs}, &shuntv1.Step{Name: "attach", DurationUs: res.AttachUs})
	}
}

func (r *record) outcome(o shuntv1.Outcome, reason string) {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.msg.Outcome = o
	if o != shuntv1.Outcome_OUTCOME_COMPLETED {
		r.msg.Reason = reason
		r.msg.TotalUs = micros(time.Since(r.begun))
	}
}

// expect announces another writer.
func (r *record) expect() {
	r.mu.Lock()
	r.parts++
	r.mu.Unlock()
}

// done sends the record when the last writer is through.
func (r *record) done(c Controller) {
	r.mu.Lock()
	r.parts--
	last := r.parts == 0
	r.mu.Unlock()
	if last {
		r.settled()
		c.Handoff(r.msg)
	}
}

// abandon ends the account of a hand-off that never left this node.
func (r *record) abandon() { r.settled() }

func micros(d time.Duration) uint32 { return uint32(max(d, 0).Microseconds()) }
