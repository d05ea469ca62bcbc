package e2e

import (
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/lab"
)

// Over the network, certificates decide who may change the policy: a node's never,
// and where the configuration names operators, theirs alone.
func TestOperatorsAreKnownByTheirCertificates(t *testing.T) {
	c := up(t, lab.Options{TLS: true})
	drain := func(who string) error {
		t.Helper()
		file := func(name string) string { return filepath.Join(lab.Dir, c.Name(), "tls", name) }
		remote := []string{"--controller", "10.99.0.1:6640", "--tls-cert", file(who + ".crt"), "--tls-key", file(who + ".key"), "--tls-ca", file("ca.crt")}
		for _, verb := range []string{"drain", "undrain"} {
			if _, err := c.Exec(t.Context(), "controller", append([]string{binary, verb, "server3"}, remote...)...); err != nil {
				return err
			}
		}
		c.exec("controller", append([]string{binary, "nodes"}, remote...)...)
		return nil
	}
	check := func(who, refusal string) {
		t.Helper()
		err := drain(who)
		if refusal == "" && err != nil || refusal != "" && (err == nil || !strings.Contains(err.Error(), refusal)) {
			t.Errorf("%s: %v, want %q", who, err, refusal)
		}
	}
	check("switch", "")
	check("server1", "nodes do not change the policy")

	c.configure("controller", func(conf map[string]any) { conf["operators"] = []string{"controller"} })
	c.restart("controller", "controller")
	c.await(15*time.Second, func() string {
		if out, err := c.Exec(t.Context(), "controller", binary, "nodes"); err != nil || strings.Count(string(out), "server") < 3 {
			return string(out)
		}
		return ""
	})
	check("controller", "")
	check("switch", "name it under operators")
	check("server1", "nodes do not change the policy")
	if out := c.exec("controller", binary, "drain", "server3"); out == "" { // by the unix socket
		t.Error("no answer by the unix socket")
	}
}
