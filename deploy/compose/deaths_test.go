//go:build compose

package compose

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/lab/app"
)

// A download is a long request that is under way in the client's container.
type download struct {
	t      *testing.T
	cmd    *exec.Cmd
	check  *app.Verifier
	stderr bytes.Buffer
	done   chan error
}

// download starts one that takes some ten seconds, and returns once it has a
// session that is handed off.
func (p *project) download(t *testing.T) *download {
	t.Helper()
	d := &download{t: t, check: app.NewVerifier(large), done: make(chan error, 1)}
	d.cmd = p.execCommand(t.Context(), "client", "curl", "--silent", "--show-error", "--fail", "--max-time", "120",
		"--limit-rate", "6M", fmt.Sprintf("%s/bytes/%d", vip, large))
	d.cmd.Stdout, d.cmd.Stderr = d.check, &d.stderr
	if err := d.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() { d.done <- d.cmd.Wait() }()
	return d
}

// finish waits for the download and checks every octet.
func (d *download) finish() {
	d.t.Helper()
	begin := time.Now()
	if err := <-d.done; err != nil {
		d.t.Fatalf("download: %v: %s", err, d.stderr.String())
	}
	if err := d.check.Close(); err != nil {
		d.t.Fatalf("download: %v", err)
	}
	d.t.Logf("the download ended %v later, complete", time.Since(begin).Round(time.Second/10))
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
	p.start(dispatcher)
	p.isUp(dispatcher, true)
	d.finish()
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
	d.underWay()
	p.start("switch")
	p.answers(30*time.Second, "requests to be answered by way of the new switch", 10)
	d.finish()
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
