package health

import (
	"fmt"
	"time"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// tally turns the outcomes of checks into a verdict.
type tally struct {
	rise, fall uint32
	row        uint32 // outcomes of one kind in a row
	failing    bool   // that kind
	health     shuntv1.HealthState
	reason     string
	since      time.Time
}

// observe counts an outcome and reports whether the verdict has changed. While
// it stays, so does its reason: the first failure says more than the latest.
func (t *tally) observe(now time.Time, err error) (changed bool) {
	if failing := err != nil; failing != t.failing {
		t.failing, t.row = failing, 0
	}
	t.row = min(t.row+1, 1<<30)
	health, need := shuntv1.HealthState_HEALTH_STATE_HEALTHY, t.rise
	reason := fmt.Sprintf("%d checks in a row succeeded", t.row)
	if t.failing {
		health, need = shuntv1.HealthState_HEALTH_STATE_UNHEALTHY, t.fall
		reason = fmt.Sprintf("%d checks in a row failed: %v", t.row, err)
	}
	if t.row < need || t.health == health {
		return false
	}
	t.health, t.reason, t.since = health, reason, now
	return true
}
