package e2e

import (
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
	"github.com/shunt-sdn/shunt/lab"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// A cluster changes its certificate authority: nobody is told, and what is
// connected anew afterwards is connected with the new files, between those that
// were restarted and those that were not: two of the servers and the switch.
func TestTheAuthorityIsReplaced(t *testing.T) {
	c := up(t, lab.Options{TLS: true})
	file := func(name string) string { return filepath.Join(lab.Dir, c.Name(), "tls", name) }
	ca := tlstest.NewCA(t)
	old, err := os.ReadFile(file("ca.crt"))
	if err != nil {
		t.Fatal(err)
	}
	var fresh []byte
	restart := func(host, name string) {
		t.Helper()
		c.restart(host, name)
		c.await(20*time.Second, func() string {
			s, err := c.operator.GetStatus(t.Context(), &shuntv1.GetStatusRequest{})
			if err != nil {
				return err.Error()
			}
			for _, n := range s.Nodes {
				if !n.Up {
					return n.Name + " is not up"
				}
			}
			if len(s.Nodes) != 4 || !s.Switches[0].Connected {
				return fmt.Sprint(s)
			}
			return ""
		})
		c.eachIsHandedOne()
	}
	everything := func() {
		t.Helper()
		restart("server2", "agent") // it calls the controller, and is called by the dispatcher
		restart("controller", "controller")
		restart("dispatcher1", "agent")
	}

	// Certificates of the new authority, in steps in which each peer is known to all.
	steps := []func(){
		func() { // all know both authorities
			for _, h := range c.Info().Hosts {
				if h.Role == lab.RoleClient {
					continue
				}
				files := ca.Files(t, h.Name, namesIn(t, file(h.Name+".crt"))...)
				fresh = read(t, files.CA)
				for from, to := range map[string]string{files.Cert: ".crt.new", files.Key: ".key.new"} {
					write(t, file(h.Name+to), read(t, from))
				}
			}
			write(t, file("ca.crt"), slices.Concat(old, fresh))
		},
		func() { // all have certificates of the new one
			for _, h := range c.Info().Hosts {
				if h.Role == lab.RoleClient {
					continue
				}
				for _, kind := range []string{".crt", ".key"} {
					if err := os.Rename(file(h.Name+kind+".new"), file(h.Name+kind)); err != nil {
						t.Fatal(err)
					}
				}
			}
		},
		func() { write(t, file("ca.crt"), fresh) }, // the old one is forgotten
	}
	for _, step := range steps {
		step()
		everything()
	}
	// That it was the new authority that counted:
	write(t, file("ca.crt"), old)
	c.exec("controller", binary, "nodes") // by the unix socket
	out, err := c.Exec(t.Context(), "controller", binary, "nodes", "--controller", "10.99.0.1:6640",
		"--tls-cert", file("controller.crt"), "--tls-key", file("controller.key"), "--tls-ca", file("ca.crt"))
	if err == nil || !strings.Contains(err.Error()+string(out), "unknown authority") {
		t.Errorf("the old authority's certificates are still shown: %v %s", err, out)
	}
}

// eachIsHandedOne waits until each of three servers was handed a request.
func (c *cluster) eachIsHandedOne() {
	c.t.Helper()
	seen := map[string]bool{}
	c.await(15*time.Second, func() string {
		who, err := c.fetch(c.t.Context(), c.urls("/whoami")[0])
		if err != nil {
			return err.Error()
		}
		if seen[who] = true; len(seen) < 3 {
			return fmt.Sprint("only ", slices.Sorted(maps.Keys(seen)))
		}
		return ""
	})
}

// namesIn a certificate's file, but for the subject's.
func namesIn(t *testing.T, file string) []string {
	t.Helper()
	block, _ := pem.Decode(read(t, file))
	if block == nil {
		t.Fatalf("%s: no PEM", file)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		t.Fatalf("%s: %v", file, err)
	}
	names := slices.DeleteFunc(cert.DNSNames, func(n string) bool { return n == cert.Subject.CommonName })
	for _, ip := range cert.IPAddresses {
		names = append(names, ip.String())
	}
	return names
}

func read(t *testing.T, file string) []byte {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func write(t *testing.T, file string, b []byte) {
	t.Helper()
	if err := os.WriteFile(file, b, 0o600); err != nil {
		t.Fatal(err)
	}
}
