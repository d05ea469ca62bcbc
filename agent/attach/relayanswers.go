package attach

import (
	"errors"
	"io"

	"github.com/shunt-sdn/shunt/internal/httpframe"
)

// answers passes on what the application sends, until its FIN.
func (c *conversation) answers() error {
	err := c.follow()
	if c.elsewhere() {
		return nil
	}
	if errors.Is(err, io.EOF) {
		// All that was before it is with the client. An error would say that
		// the client is gone, which its own direction sees too.
		c.client.CloseWrite()
		c.backendEnded()
		err = nil
	}
	c.enter(over)
	return err
}

// elsewhere reports that the client is not this goroutine's to write to any more.
func (c *conversation) elsewhere() bool {
	return c.currentPhase() == moved
}

// follow passes on answer after answer. The error is io.EOF at the FIN.
func (c *conversation) follow() error {
	var m httpframe.Message
	open := false // m is an answer that is not complete
	for {
		if open {
			if err := c.plain(c.client, c.backend, &m, &c.stats.ToClient); err != nil {
				return err
			}
			if m.Done() {
				open = false
				if err := c.complete(&m, nil); err != nil {
					return err
				}
			}
		}
		b, err := c.receive(c.fromBackend, bufferSize, false)
		if err != nil {
			return err
		}
		for len(b) > 0 && err == nil {
			if open || c.answer(&m) {
				b, open, err = c.pass(&m, b)
			} else if !c.elsewhere() {
				b, err = nil, c.rest(b, over)
			} else {
				err = errMoved
			}
		}
		c.fromBackend.release()
		if err != nil {
			return err
		}
	}
}

// answer prepares m for the answer to the request that was sent. It reports
// false if there is none: the application speaks out of turn, as servers do
// that close an idle connection with a 408. Then no more requests are passed on.
func (c *conversation) answer(m *httpframe.Message) bool {
	c.mu.Lock()
	defer c.mu.Unlock()
	switch c.phase {
	case answering:
		c.begun = true
		m.Response(c.method)
		return true
	case idle:
		c.phase = over
	}
	return false
}

// pass writes the octets that are the answer's, and returns the others.
func (c *conversation) pass(m *httpframe.Message, b []byte) (left []byte, open bool, err error) {
	n, ferr := m.Feed(b)
	if ferr != nil {
		c.log.Warn("an application's answer cannot be followed; no more requests are passed on on its connection", "session", c.meta.ID, "err", ferr)
		return nil, false, c.rest(b, lost)
	}
	if err := c.write(b[:n]); err != nil {
		return nil, false, err
	}
	left = b[n:]
	switch {
	case !m.Done():
		return left, true, nil
	case m.Interim():
		return left, false, nil
	}
	return nil, false, c.complete(m, left)
}

// complete is called when the client has all of an answer; left came after it.
func (c *conversation) complete(m *httpframe.Message, left []byte) error {
	if c.cfg.Answered != nil {
		c.cfg.Answered(m.Status())
	}
	switch {
	case m.Tunnel():
		return c.rest(left, tunnel)
	case !m.KeepAlive() || len(left) > 0:
		return c.rest(left, over)
	}
	c.enter(idle)
	if c.leaves() {
		c.vacate()
	}
	return nil
}

// rest passes on everything that comes, beginning with b.
func (c *conversation) rest(b []byte, p phase) error {
	if p == lost { // the next request must not take this for its answer
		c.enter(p)
	}
	err := c.write(b)
	c.enter(p)
	c.fromBackend.release()
	if err != nil {
		return err
	}
	for {
		n, end, err := c.some(c.client, c.backend)
		c.stats.ToClient += n
		if n > 0 {
			c.touch()
		}
		if end {
			return io.EOF
		}
		if err = c.again(c.backend, err); err != nil {
			return err
		}
	}
}

func (c *conversation) write(b []byte) error {
	if len(b) == 0 {
		return nil
	}
	n, err := c.client.Write(b)
	c.stats.ToClient += int64(n)
	return err
}
