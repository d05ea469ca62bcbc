package attach

import (
	"fmt"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// Answers is how an application answered since it said so last.
type Answers struct {
	Errors uint32 // answers with a status of 500 to 599
	InARow uint32 // of these, how many came after the latest other answer; all, if there was none
	Others bool   // there were other answers
}

// willing takes in that an application lets connections go or, the second time,
// that it would tell how it answers.
func (l *Listener) willing(a *app) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if !a.willing {
		a.willing, a.told, a.vacates = true, make(map[string]bool), make(map[string]bool)
		return nil
	}
	if a.heeded || l.cfg.Answers == nil {
		return nil
	}
	a.heeded = true
	frame, err := handoffproto.Heed{}.Append(nil)
	if err == nil {
		err = handoffproto.Send(a.raw, frame, -1)
	}
	if err != nil && !gone(err) {
		return fmt.Errorf("ask an application how it answers: %w", err)
	}
	return nil
}
