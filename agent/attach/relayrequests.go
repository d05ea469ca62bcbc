package attach

import (
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/agent/tcprepair"
	"github.com/shunt-sdn/shunt/internal/httpframe"
)

// errApplicationGone: the application takes no more of a request. What it has
// to say about that still reaches the client.
var errApplicationGone = errors.New("the application takes no more")

// firstLook is how much of a request is looked at first; most heads are shorter.
const firstLook = 4 << 10

// requests passes on what the client sends, until its FIN.
func (c *conversation) requests() error {
	for first := !c.meta.Idle; ; first = false {
		// The client's FIN or RST is noticed while an answer is under way.
		b, err := c.next(first)
		if err == nil {
			err = c.request(b, first)
		}
		c.fromClient.release()
		if err == errApplicationGone {
			err = c.drain(false)
		}
		switch err {
		case nil:
		case errMoved:
			return nil
		case io.EOF:
			c.backend.CloseWrite()
			return nil
		default:
			return err
		}
	}
}

var errMoved = errors.New("the connection moved")

// request passes on one request, which begins with b; more of it may be there.
// It returns io.EOF at the client's FIN, errMoved, or errApplicationGone.
func (c *conversation) request(b []byte, first bool) error {
	p := c.currentPhase()
	if p == answering { // which can take long
		b = nil
		c.fromClient.release()
		p = c.turn()
	}
	switch p {
	case tunnel:
		c.fromClient.release()
		return c.tunnel()
	case over:
		return c.drain(true)
	case lost:
		return c.drain(false)
	}
	h, err := c.head(b)
	if err != nil {
		return err
	}
	defer h.release()
	if r := c.cfg.Router; r != nil && !first && r.PerRequest(c.meta.Service) {
		if node := r.Route(c.meta, &h.Head); node != "" && c.move(node) {
			return errMoved
		}
	}
	var m httpframe.Message
	m.Request()
	if _, err := m.Feed(h.octets); err != nil || !m.HeadDone() {
		return c.refuse(&httphead.Error{Status: http.StatusBadRequest, Reason: "the request's framing is not valid"})
	}
	out := h.octets
	if c.cfg.Forwarded != ForwardedOff {
		if out, err = c.cfg.Forwarded.rewrite(make([]byte, 0, len(out)+128), out, c.meta.Client.Addr()); err != nil {
			return c.refuse(&httphead.Error{Status: http.StatusBadRequest, Reason: err.Error()})
		}
	}
	if !c.begin(m.Method()) {
		return nil // the application has ended the connection just now: see turn
	}
	if err := c.fromClient.discard(h.Length); err != nil {
		return err
	}
	if err := c.toBackend(out); err != nil {
		return err
	}
	h.release()
	return c.body(&m)
}

// body passes on the rest of the request m.
func (c *conversation) body(m *httpframe.Message) error {
	for !m.Done() {
		err := c.plain(c.backend, c.client, m, &c.stats.ToBackend)
		if err != nil {
			return c.side(err)
		}
		if m.Done() {
			break
		}
		// Octets that belong to the next request stay in the queue.
		limit, peek := bufferSize, true
		if plain := m.Plain(); plain > 0 {
			limit, peek = int(min(plain, bufferSize)), false
		}
		b, err := c.receive(c.fromClient, limit, peek)
		if err != nil {
			return err
		}
		n, ferr := m.Feed(b)
		if peek {
			err = c.fromClient.discard(n)
		}
		if err == nil {
			err = c.toBackend(b[:n])
		}
		c.fromClient.release()
		if err != nil {
			return err
		}
		if ferr != nil {
			err := c.refuse(&httphead.Error{Status: http.StatusBadRequest, Reason: "the request's body is not framed as it should be"})
			if err == errApplicationGone { // it is answering: its request ends here, cut
				c.backend.CloseWrite()
			}
			return err
		}
	}
	return nil
}

// toBackend writes to the application.
func (c *conversation) toBackend(b []byte) error {
	n, err := c.backend.Write(b)
	c.stats.ToBackend += int64(n)
	if err != nil && !c.failed.Load() {
		return errApplicationGone
	}
	return err
}

// side tells which end a failure of moving octets from the client to the
// application is about.
func (c *conversation) side(err error) error {
	if err == io.EOF || c.failed.Load() || errors.Is(err, errIdle) || errors.Is(err, os.ErrDeadlineExceeded) ||
		c.fromClient.state() == tcprepair.StateClose {
		return err
	}
	return errApplicationGone
}

// tunnel passes on everything.
func (c *conversation) tunnel() error {
	for {
		n, end, err := c.some(c.backend, c.client)
		c.stats.ToBackend += n
		if n > 0 {
			c.touch()
		}
		if end {
			return io.EOF
		}
		if err = c.again(c.client, err); err != nil {
			return err
		}
	}
}

// drain reads what nobody answers any more, until the client's FIN: closing with
// unread octets would take from the client what it has not read yet. complete:
// the application has no more to say, so it may hear that nothing comes.
func (c *conversation) drain(complete bool) error {
	if complete {
		c.backend.CloseWrite()
	}
	for {
		_, err := c.receive(c.fromClient, bufferSize, false)
		c.fromClient.release()
		if err != nil {
			return err
		}
	}
}

// refuse answers a request here, as the dispatcher does, and ends the
// connection. If the application has begun to answer, or ended the connection, an
// answer of somebody else would be taken for its own.
func (c *conversation) refuse(e *httphead.Error) error {
	c.mu.Lock()
	mine := c.phase == idle || c.phase == answering && !c.begun
	if mine {
		c.phase = moved // from the application
	}
	c.mu.Unlock()
	if !mine {
		return errApplicationGone
	}
	return c.answerError(e)
}

// limits on what is read after an answer that ends the connection.
const (
	lingerFor   = 2 * time.Second
	lingerBytes = 256 << 10
)

// answerError answers and lets the client read the answer before it closes. The
// application is not heard any more: it was not asked.
func (c *conversation) answerError(e *httphead.Error) error {
	c.log.Info("refused a request", "session", c.meta.ID, "client", c.meta.Client, "status", e.Status, "reason", e.Reason)
	c.backend.Close()
	c.client.SetDeadline(time.Now().Add(lingerFor))
	if _, err := c.client.Write(e.Response()); err != nil {
		return fmt.Errorf("refuse a request: %w", err)
	}
	c.client.CloseWrite()
	for n := 0; n < lingerBytes; {
		b, err := c.fromClient.receive(bufferSize, false)
		c.fromClient.release()
		if err != nil {
			break
		}
		n += len(b)
	}
	return errMoved
}
