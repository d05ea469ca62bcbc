package handoff

import (
	"bytes"
	"errors"
	"io"
	"net"
	"sync"
	"syscall"
	"time"
	"unsafe"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

const (
	// maxHead is the longest head that is asked about, octets. It has to fit
	// into the socket's receive buffer, unread, and into a question.
	maxHead = 32 << 10
	// headFor is how long a request's head may take to arrive before the server
	// gets what there is of it, with its own timeouts.
	headFor = 10 * time.Second
	// answerFor is how long the agent may take to say where a request goes. It
	// takes microseconds, if somebody calls Accept to hear it.
	answerFor = time.Second
	// silentFor is how long nobody asks after the agent did not answer.
	silentFor = 10 * time.Second
)

var heads = sync.Pool{New: func() any { b := make([]byte, maxHead); return &b }}

// errMoved ends a connection's reading: it is elsewhere.
var errMoved = io.EOF

// route asks the agent about the request that begins with b and lies unread in the
// queue, and lets the connection go if it says so. With a nil error the request
// is to be served here.
func (r *requests) route(b []byte) error {
	buf := heads.Get().(*[]byte)
	defer heads.Put(buf)
	n, err := r.wholeHead(b, *buf)
	if n == 0 || err != nil {
		return err
	}
	l := r.conn.listener
	node := l.ask(handoffproto.Question{Session: handoffproto.Session(r.conn.session), Head: string((*buf)[:n])})
	if node == "" {
		return nil
	}
	frame, err := handoffproto.Give{Session: handoffproto.Session(r.conn.session), Node: node}.Append(nil)
	if err != nil {
		return nil
	}
	err = errors.New("no agent")
	cerr := r.raw.Control(func(fd uintptr) { err = l.send(frame, int(fd)) })
	if cerr != nil {
		return cerr // closed meanwhile, as a server does that shuts down
	}
	if err != nil {
		l.log.Debug("a connection does not move", "session", r.conn.session.ID, "err", err)
		return nil
	}
	r.gone.Store(true)
	r.conn.TCPConn.Close() // a copy; the agent has the connection
	return errMoved
}

// wholeHead waits until the head that begins with b is complete and copies it
// to buf. It returns 0 if the server shall have what there is.
func (r *requests) wholeHead(b, buf []byte) (int, error) {
	n := copy(buf, b)
	if i := headLength(buf[:n]); i > 0 {
		return i, nil
	}
	if err := r.setOwnDeadline(time.Now().Add(headFor)); err != nil {
		return 0, err
	}
	found := 0
	seen := 0
	attempt := func(fd uintptr) bool {
		for {
			n, _, err := syscall.Recvfrom(int(fd), buf, syscall.MSG_PEEK|syscall.MSG_DONTWAIT)
			switch {
			case err == syscall.EINTR:
				continue
			case err == syscall.EAGAIN:
				return false
			case err != nil || n == 0 || n == len(buf):
				return true // the server hears of it when it reads
			}
			if found = headLength(buf[:n]); found > 0 {
				return true
			}
			// New octets wake this up, and so does a FIN: then there are no more.
			ended := readEnded(int(fd))
			if ended && n == seen {
				return true
			}
			if seen = n; !ended {
				return false
			}
		}
	}
	err := r.raw.Read(attempt)
	late := err != nil && r.ownDeadline(err)
	if e := r.setOwnDeadline(time.Time{}); err == nil {
		err = e
	}
	if late {
		return 0, nil
	}
	return found, err
}

// headLength returns the length of the head that b begins with, 0 if it is not
// complete. Whether it is a valid one is for others to say.
func headLength(b []byte) int {
	if i := bytes.Index(b, []byte("\r\n\r\n")); i >= 0 {
		return i + len("\r\n\r\n")
	}
	return 0
}

// readEnded reports whether the client will send no more than what is in the
// queue. A connection that was moved after the client's FIN does not tell by its
// TCP state. Source: poll(2), POLLRDHUP.
func readEnded(fd int) bool {
	const pollRDHUP = 0x2000
	p := struct {
		fd              int32
		events, revents int16
	}{fd: int32(fd), events: pollRDHUP}
	var none syscall.Timespec
	for {
		_, _, err := syscall.Syscall6(syscall.SYS_PPOLL, uintptr(unsafe.Pointer(&p)), 1, uintptr(unsafe.Pointer(&none)), 0, 0, 0)
		if err != syscall.EINTR {
			return err != 0 || p.revents != 0
		}
	}
}

// questions are those that the agent has not answered.
type questions struct {
	mu         sync.Mutex
	number     uint32                 // of the last one; guarded by mu
	open       map[uint32]chan string // guarded by mu
	perRequest map[string]bool        // services of which the agent wants to be asked; guarded by mu
	silent     time.Time              // until when nobody asks; guarded by mu
}

// asks reports whether requests of a service may have to go elsewhere.
func (l *Listener) asks(service string) bool {
	q := &l.questions
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.perRequest[service] && (q.silent.IsZero() || time.Now().After(q.silent)) && !l.isClosing()
}

// ask returns the node that a request shall go to, "" if it stays.
func (l *Listener) ask(question handoffproto.Question) (node string) {
	q := &l.questions
	answer := make(chan string, 1)
	q.mu.Lock()
	q.number++
	question.Number = q.number
	q.open[question.Number] = answer
	q.mu.Unlock()
	defer func() {
		q.mu.Lock()
		delete(q.open, question.Number)
		q.mu.Unlock()
	}()
	frame, err := question.Append(make([]byte, 0, 256+len(question.Head)))
	if err == nil {
		err = l.sendPatiently(frame)
	}
	if err != nil {
		return ""
	}
	t := time.NewTimer(answerFor)
	defer t.Stop()
	select {
	case node = <-answer:
		return node
	case <-l.closing: // nobody may hear the answer
		return ""
	case <-t.C:
	}
	l.log.Warn("the agent does not say where requests go; does the program call Accept all the time?", "wait", silentFor)
	q.mu.Lock()
	q.silent = time.Now().Add(silentFor)
	q.mu.Unlock()
	return ""
}

// answered passes an answer on to whoever asked.
func (l *Listener) answered(a handoffproto.Answer) {
	q := &l.questions
	q.mu.Lock()
	defer q.mu.Unlock()
	if answer, ok := q.open[a.Number]; ok {
		answer <- a.Node
		delete(q.open, a.Number)
	}
}

// unanswered has all requests served here: the agent is gone.
func (l *Listener) unanswered() {
	q := &l.questions
	q.mu.Lock()
	defer q.mu.Unlock()
	clear(q.perRequest)
	for n, answer := range q.open {
		answer <- ""
		delete(q.open, n)
	}
	l.vacancies.clear()
	l.unheeded()
}

// sendPatiently waits while the agent's queue is full, as it is when many
// requests come at once.
func (l *Listener) sendPatiently(frame []byte) error {
	for end := time.Now().Add(answerFor); ; {
		err := l.send(frame, -1)
		if !errors.Is(err, syscall.EAGAIN) && !errors.Is(err, syscall.ENOBUFS) || time.Now().After(end) {
			return err
		}
		select {
		case <-time.After(time.Millisecond):
		case <-l.closing:
			return err
		}
	}
}

// send sends a frame to the agent, without waiting.
func (l *Listener) send(frame []byte, fd int) error {
	agent := l.current()
	if agent == nil {
		return net.ErrClosed
	}
	raw, err := agent.SyscallConn()
	if err != nil {
		return err
	}
	return handoffproto.Send(raw, frame, fd)
}
