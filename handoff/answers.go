package handoff

import (
	"errors"
	"net/http"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// A server whose answers fail is left out by dispatchers, if the policy says so.
// They do not see the answers, so the program tells its agent. What a server
// writes first of an answer has its status; nothing is put between the
// server and its connection, so that sendfile, Flush and Hijack are what they are.

// tellEvery is the least time between two accounts of answers.
const tellEvery = 10 * time.Millisecond

// answers are those that the agent was not told of. Answers that do not fail
// and follow such cost a look at two flags.
type answers struct {
	heeded  atomic.Bool // the agent wants to hear
	failing atomic.Bool // the latest answer failed

	mu      sync.Mutex
	untold  handoffproto.Answers // guarded by mu
	last    time.Time            // when the agent was told; guarded by mu
	timer   *time.Timer          // tells it the rest; guarded by mu
	pending bool                 // timer runs; guarded by mu
}

// began takes in the first octets of an answer as a server writes it. It reports
// false if they are of an interim one, which another follows.
func (l *Listener) began(b []byte) (final bool) {
	status := statusOf(b)
	if status >= 100 && status < 200 && status != http.StatusSwitchingProtocols {
		return false
	}
	if a := &l.answers; status != 0 && a.heeded.Load() {
		failed := status >= 500 && status <= 599
		if failed || a.failing.Load() {
			l.count(failed)
		}
	}
	return true
}

// statusOf reads a status line, "HTTP/1.1 503 …"; 0: it is none.
func statusOf(b []byte) (status int) {
	const before = "HTTP/1.x "
	if len(b) < len(before)+3 || string(b[:7]) != before[:7] || b[8] != ' ' {
		return 0
	}
	for _, digit := range b[len(before) : len(before)+3] {
		if digit < '0' || digit > '9' {
			return 0
		}
		status = status*10 + int(digit-'0')
	}
	return status
}

// count counts an answer and tells the agent, at once or soon.
func (l *Listener) count(failed bool) {
	a := &l.answers
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failing.Store(failed)
	if failed {
		a.untold.Errors++
		a.untold.InARow++
	} else {
		a.untold.InARow, a.untold.Others = 0, true
	}
	if a.pending {
		return
	}
	if since := time.Since(a.last); since < tellEvery {
		l.tellIn(tellEvery - since)
		return
	}
	l.tellAnswers()
}

// tellIn is called with answers.mu held.
func (l *Listener) tellIn(d time.Duration) {
	if l.isClosing() {
		return // the agent cannot be told any more
	}
	a := &l.answers
	a.pending = true
	a.timer = time.AfterFunc(d, func() {
		a.mu.Lock()
		defer a.mu.Unlock()
		a.pending = false
		l.tellAnswers()
	})
}

// tellAnswers is called with answers.mu held.
func (l *Listener) tellAnswers() {
	a := &l.answers
	if a.untold == (handoffproto.Answers{}) {
		return
	}
	a.last = time.Now()
	frame, err := a.untold.Append(nil)
	if err == nil {
		err = l.send(frame, -1)
	}
	if errors.Is(err, syscall.EAGAIN) || errors.Is(err, syscall.ENOBUFS) {
		l.tellIn(tellEvery)
		return
	}
	a.untold = handoffproto.Answers{} // told, or there is no agent
}

// unheeded forgets what was not told: the agent is gone, or the listener closes.
func (l *Listener) unheeded() {
	a := &l.answers
	a.heeded.Store(false)
	a.mu.Lock()
	defer a.mu.Unlock()
	a.failing.Store(false)
	a.untold = handoffproto.Answers{}
	if a.timer != nil && a.timer.Stop() {
		a.pending = false
	}
}
