package agent

import (
	"sync/atomic"

	"github.com/shunt-sdn/shunt/agent/attach"
)

// answers counts how this node's applications answer.
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
