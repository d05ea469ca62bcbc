package agent

import (
	"sync/atomic"

	"github.com/shunt-sdn/shunt/agent/attach"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// answers counts how one of this node's applications answers.
type answers struct {
	errors atomic.Uint64 // statuses 500 to 599
	inARow atomic.Uint32 // of the latest answers
}

// take counts an answer of a status.
func (a *answers) take(status int) {
	if status >= 500 && status <= 599 {
		a.errors.Add(1)
		a.inARow.Add(1)
	} else if a.inARow.Load() != 0 { // else many processors would share the line
		a.inARow.Store(0)
	}
}

// told counts the answers that an application tells of.
func (a *answers) told(n attach.Answers) {
	a.errors.Add(uint64(n.Errors))
	if n.Others {
		a.inARow.Store(n.InARow)
	} else {
		a.inARow.Add(n.InARow)
	}
}

// report is for the controller.
func (a *answers) report(service string) *shuntv1.ServiceAnswers {
	return &shuntv1.ServiceAnswers{Service: service, ServerErrors: a.errors.Load(), ServerErrorsInARow: a.inARow.Load()}
}
