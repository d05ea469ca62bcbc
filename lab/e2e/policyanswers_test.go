package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/lab"
)

// A server whose answers fail is left out for a while, whether its own agent
// relays them or a dispatcher does.
func TestAServerIsLeftOutForItsAnswers(t *testing.T) {
	c := up(t, lab.Options{Switch: lab.SwitchOVS, Attach: lab.AttachRelay, Servers: 2})
	for _, mode := range []string{"migrate", "proxy"} {
		leftOut(c, mode)
	}
}

// answersFail: a Go program tells its agent.
func answersFail(c *cluster) { leftOut(c, "migrate") }

func leftOut(c *cluster, mode string) {
	c.policy(fmt.Sprintf(`
services: [{name: web, routes: [{name: all, pool: app, mode: %s, affinity: {cookie: to}}]}]
pools: [{name: app, ejection: {failures: 4, baseTime: 3s, serverErrors: true}}]
`, mode))
	// Answers that do not fail, in between, excuse those that do.
	for range 4 {
		for range 3 {
			c.spread(1, 1, c.get("/status/503", "Cookie: to=server2"))
		}
		if got, _ := c.spread(1, 1, c.get("/status/404", "Cookie: to=server2")); got["server2"] != 1 {
			c.t.Fatalf("%s: %v", mode, got)
		}
	}
	if h := c.health("server2"); h.Health == "ejected" {
		c.t.Errorf("%s: %+v", mode, h)
	}
	c.await(20*time.Second, func() string {
		c.spread(4, 1, c.get("/status/503", "Cookie: to=server2"))
		if h := c.health("server2"); h.Health != "ejected" || !strings.Contains(h.Reason, "status 50") {
			return fmt.Sprintf("%s: %+v", mode, h)
		}
		return ""
	})
	got, failed := c.spread(20, 4, c.get("/whoami", "Cookie: to=server2"))
	c.none(failed)
	if got["server2"] != 0 {
		c.t.Errorf("%s: while server2 is ejected: %v", mode, got)
	}
	c.await(30*time.Second, func() string {
		if got, _ := c.spread(4, 4, c.get("/whoami", "Cookie: to=server2")); got["server2"] != 4 {
			return fmt.Sprintf("%s: server2 is not back: %v", mode, got)
		}
		return ""
	})
}
