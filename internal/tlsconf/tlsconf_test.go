package tlsconf_test

import (
	"crypto/tls"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
)

// exchange connects client to server and sends one octet each way.
func exchange(t *testing.T, server, client *tls.Config) (serverErr, clientErr error) {
	t.Helper()
	l, err := tls.Listen("tcp", "127.0.0.1:0", server)
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		c, err := l.Accept()
		if err != nil {
			done <- err
			return
		}
		defer c.Close()
		buf := make([]byte, 1)
		if _, err = c.Read(buf); err == nil {
			_, err = c.Write(buf)
		}
		done <- err
	}()
	clientErr = func() error {
		var d net.Dialer
		raw, err := d.DialContext(t.Context(), "tcp", l.Addr().String())
		if err != nil {
			return err
		}
		c := tls.Client(raw, client)
		defer c.Close()
		if _, err := c.Write([]byte{1}); err != nil {
			return err
		}
		_, err = c.Read(make([]byte, 1))
		return err
	}()
	return <-done, clientErr
}

func TestPeersOfOneAuthorityTalk(t *testing.T) {
	ca := tlstest.NewCA(t)
	server, err := ca.Files(t, "controller", "127.0.0.1").Server()
	if err != nil {
		t.Fatal(err)
	}
	client, err := ca.Files(t, "agent").Client("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	if se, ce := exchange(t, server, client); se != nil || ce != nil {
		t.Fatalf("server: %v, client: %v", se, ce)
	}
}

func TestStrangersAreRefused(t *testing.T) {
	ca, other := tlstest.NewCA(t), tlstest.NewCA(t)
	files := ca.Files(t, "controller", "127.0.0.1")
	server, err := files.Server()
	if err != nil {
		t.Fatal(err)
	}
	good, err := ca.Files(t, "agent").Client("127.0.0.1")
	if err != nil {
		t.Fatal(err)
	}
	for name, spoil := range map[string]func(*tls.Config){
		"no certificate":         func(c *tls.Config) { c.Certificates = nil },
		"TLS 1.2":                func(c *tls.Config) { c.MinVersion, c.MaxVersion = tls.VersionTLS12, tls.VersionTLS12 },
		"another name":           func(c *tls.Config) { c.ServerName = "elsewhere" },
		"a server of another CA": func(c *tls.Config) { x, _ := other.Files(t, "agent").Client("127.0.0.1"); c.RootCAs = x.RootCAs },
		"a client of another CA": func(c *tls.Config) {
			x, _ := other.Files(t, "agent").Client("127.0.0.1")
			c.Certificates = x.Certificates
		},
	} {
		t.Run(name, func(t *testing.T) {
			client := good.Clone()
			spoil(client)
			if se, ce := exchange(t, server, client); se == nil || ce == nil {
				t.Fatalf("server: %v, client: %v; want both to fail", se, ce)
			}
		})
	}
}

func TestErrorsNameTheFile(t *testing.T) {
	good := tlstest.NewCA(t).Files(t, "controller")
	rubbish := filepath.Join(t.TempDir(), "rubbish.pem")
	if err := os.WriteFile(rubbish, []byte("rubbish"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		name string
		f    tlsconf.Files
		want string
	}{
		{"nothing", tlsconf.Files{}, "tls: cert is missing"},
		{"no key", tlsconf.Files{Cert: good.Cert, CA: good.CA}, "tls: key is missing"},
		{"absent certificate", tlsconf.Files{Cert: "/absent.pem", Key: good.Key, CA: good.CA}, "/absent.pem"},
		{"rubbish key", tlsconf.Files{Cert: good.Cert, Key: rubbish, CA: good.CA}, rubbish},
		{"absent authority", tlsconf.Files{Cert: good.Cert, Key: good.Key, CA: "/absent.pem"}, "/absent.pem"},
		{"rubbish authority", tlsconf.Files{Cert: good.Cert, Key: good.Key, CA: rubbish}, rubbish},
	} {
		t.Run(c.name, func(t *testing.T) {
			for _, err := range []error{second(c.f.Server()), second(c.f.Client("x"))} {
				if err == nil || !strings.Contains(err.Error(), c.want) {
					t.Errorf("error %v, want one with %q", err, c.want)
				}
			}
		})
	}
}

func second(_ *tls.Config, err error) error { return err }
