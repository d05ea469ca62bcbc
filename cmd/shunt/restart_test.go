package main

import (
	"strings"
	"testing"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// A controller that has just started knows who was there before: what waits for
// dispatchers waits for those, too, and says which one has not come.
func TestAfterARestartThoseWhoWereThereAreWaitedFor(t *testing.T) {
	c := newCluster(t)
	c.agent("server1", shuntv1.Role_ROLE_SERVER, 101)
	c.agent("dispatcher1", shuntv1.Role_ROLE_DISPATCHER, 11)
	c.stop()
	c.start()
	file := c.file("shop.yaml", shop)
	_, errs, status := c.shunt("", "apply", "-f", file, "--wait", "--timeout", "3s")
	if want := "not yet applied by dispatcher1 (not connected since the controller started)"; status != exitTimeout || !strings.Contains(errs, want) {
		t.Errorf("apply: status %d, want %d and %q\n%s", status, exitTimeout, want, errs)
	}
	if got := c.run("describe", "service", "web"); !strings.Contains(got, "not connected since the controller started") {
		t.Errorf("describe:\n%s", got)
	}
	out, errs, status := c.shunt("", "drain", "server1", "--wait", "--timeout", "3s")
	if status != exitTimeout {
		t.Errorf("drain: status %d\n%s%s", status, out, errs)
	}
	c.run("undrain", "server1")
	c.agent("dispatcher1", shuntv1.Role_ROLE_DISPATCHER, 11)
	c.run("apply", "-f", file, "--wait")
}
