//go:build compose

package compose

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os/exec"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/lab/app"
)

// A download is a long request that is under way in the client's container. It
// is read slowly until it is to finish, so that it lasts however slow or fast
// the machine is.
type download struct {
	t      *testing.T
	cmd    *exec.Cmd
	stderr bytes.Buffer
	hurry  chan struct{} // closed to finish
	done   chan error    // gets the one result
}

const (
	piece = 16 << 10              // octets
	pace  = 10 * time.Millisecond // between pieces: 1.6 MB/s, 40 s at least
)

func (p *project) download(t *testing.T) *download {
	t.Helper()
	d := &download{t: t, hurry: make(chan struct{}), done: make(chan error, 1)}
	d.cmd = p.execCommand(t.Context(), "client", "curl", "--silent", "--show-error", "--fail", "--max-time", "180",
		fmt.Sprintf("%s/bytes/%d", vip, large))
	d.cmd.Stderr = &d.stderr
	out, err := d.cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		check := app.NewVerifier(large)
		err := d.read(out, check)
		d.done <- errors.Join(err, d.cmd.Wait(), check.Close())
	}()
	return d
}

// read compares every octet, slowly until told to hurry.
func (d *download) read(out io.Reader, check io.Writer) error {
	ticker := time.NewTicker(pace)
	defer ticker.Stop()
	for {
		if _, err := io.CopyN(check, out, piece); err == io.EOF {
			return nil
		} else if err != nil {
			return err
		}
		select {
		case <-ticker.C:
		case <-d.hurry:
		}
	}
}

// finish reads the rest and fails the test if an octet is wrong or missing.
func (d *download) finish() {
	d.t.Helper()
	begin := time.Now()
	close(d.hurry)
	if err := <-d.done; err != nil {
		d.t.Fatalf("download: %v: %s", err, d.stderr.String())
	}
	d.t.Logf("the rest of the download took %v", time.Since(begin).Round(time.Second/10))
}

// underWay fails the test if the download is over.
func (d *download) underWay() {
	d.t.Helper()
	select {
	case err := <-d.done:
		d.t.Fatalf("the download ended too early: %v: %s", err, d.stderr.String())
	default:
	}
}

// session is one line of `shunt sessions`.
type session struct {
	Client, Node string
}

// handoff is one line of `shunt handoffs`.
type handoff struct {
	Client, From, To, Outcome string
}

// carriers returns the dispatcher and the server of the only session.
func (p *project) carriers() (dispatcher, server string) {
	p.t.Helper()
	wait(p.t, 10*time.Second, "the download's session", func(context.Context) error {
		var sessions []session
		var moves []handoff
		if err := p.shunt(&sessions, "sessions"); err != nil {
			return err
		}
		if err := p.shunt(&moves, "handoffs"); err != nil {
			return err
		}
		for _, s := range sessions {
			for _, m := range moves {
				if s.Client == m.Client && m.Outcome == "completed" {
					dispatcher, server = m.From, m.To
				}
			}
		}
		if dispatcher == "" {
			return fmt.Errorf("sessions %v, hand-offs %v", sessions, moves)
		}
		return nil
	})
	return dispatcher, server
}

// answers waits until a number of requests one after the other succeed.
func (p *project) answers(patience time.Duration, what string, count int) {
	p.t.Helper()
	wait(p.t, patience, what, func(context.Context) error {
		for range count {
			if _, err := p.get(vip, 100); err != nil {
				return err
			}
		}
		return nil
	})
}

// up waits until the controller says that a node is up.
func (p *project) isUp(node string, want bool) {
	p.t.Helper()
	wait(p.t, time.Minute, fmt.Sprintf("the controller to see that %s is up: %v", node, want), func(context.Context) error {
		s, err := p.status()
		if err != nil {
			return err
		}
		for _, n := range s.Nodes {
			if n.Name == node && n.Up == want {
				return nil
			}
		}
		return fmt.Errorf("status: %+v", s)
	})
}

func downloadOutlivesItsDispatcher(t *testing.T, p *project) {
	d := p.download(t)
	dispatcher, server := p.carriers()
	t.Logf("%s handed the download to %s", dispatcher, server)
	p.kill(dispatcher)
	p.isUp(dispatcher, false)
	p.answers(20*time.Second, "the other dispatcher to take over", 10)
	d.underWay()
	d.finish()
	p.start(dispatcher)
	p.isUp(dispatcher, true)
	p.answers(20*time.Second, "both dispatchers to serve", 10)
}

func serverDies(t *testing.T, p *project) {
	const server = "server1"
	p.kill(server)
	p.isUp(server, false)
	p.answers(20*time.Second, "the other servers to answer", 10)
	p.start(server)
	p.isUp(server, true)
	wait(t, 20*time.Second, server+" to answer again", func(context.Context) error {
		got, err := p.get(vip, 100)
		if err == nil && got != server {
			err = fmt.Errorf("%s answered", got)
		}
		return err
	})
}

func controllerDies(t *testing.T, p *project) {
	d := p.download(t)
	p.carriers()
	p.kill("controller")
	p.answers(20*time.Second, "requests to be answered without a controller", 10)
	d.underWay()
	p.start("controller")
	for _, node := range append(dispatchers, servers...) {
		p.isUp(node, true)
	}
	d.finish()
	p.handsOff()
}

func switchDies(t *testing.T, p *project) {
	d := p.download(t)
	p.carriers()
	p.kill("switch")
	p.start("switch")
	p.answers(30*time.Second, "requests to be answered by way of the new switch", 10)
	d.underWay()
	d.finish()
	p.handsOff()
}

// All links go with the panel. Nodes notice, and Docker restarts them; the switch
// has to be told, because it shares the panel's network namespace.
func panelDies(t *testing.T, p *project) {
	p.kill("panel")
	p.start("panel")
	p.docker("restart", "--time", "1", p.container("switch"))
	for _, service := range append([]string{"switch", "client"}, append(dispatchers, servers...)...) {
		p.healthy(service)
	}
	p.answers(30*time.Second, "requests to be answered over the new links", 10)
	p.handsOff()
}

// handsOff waits until requests are handed off, as opposed to proxied.
func (p *project) handsOff() {
	p.t.Helper()
	wait(p.t, 30*time.Second, "requests to be handed off", func(context.Context) error {
		before, err := p.status()
		if err != nil {
			return err
		}
		if _, err := p.get(vip, 100); err != nil {
			return err
		}
		now, err := p.status()
		if err != nil {
			return err
		}
		if now.Handoffs.Completed <= before.Handoffs.Completed {
			return fmt.Errorf("before: %+v, after a request: %+v", before, now)
		}
		return nil
	})
}
