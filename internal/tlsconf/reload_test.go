package tlsconf_test

import (
	"bytes"
	"crypto/tls"
	"errors"
	"log/slog"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/credentials"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
)

// side is one of two peers that were started once and hold on to their files.
type side struct {
	files tlsconf.Files
	*tlsconf.Reloader
	log *bytes.Buffer
}

func newSide(t *testing.T, files tlsconf.Files, load func(tlsconf.Files) (*tls.Config, error)) side {
	t.Helper()
	var log bytes.Buffer
	r, err := tlsconf.Reload(func() (*tls.Config, error) { return load(files) }, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	return side{files, r, &log}
}

func asServer(f tlsconf.Files) (*tls.Config, error) { return f.Server() }
func asClient(f tlsconf.Files) (*tls.Config, error) { return f.Client("127.0.0.1") }

// put replaces the file at by what is in from.
func put(t *testing.T, at, from string) {
	t.Helper()
	b, err := os.ReadFile(from)
	if err == nil {
		err = os.WriteFile(at, b, 0o600)
	}
	if err != nil {
		t.Fatal(err)
	}
}

func TestRenewedFilesCountFromTheNextConnection(t *testing.T) {
	old, renewed := tlstest.NewCA(t), tlstest.NewCA(t)
	server := newSide(t, old.Files(t, "controller", "127.0.0.1"), asServer)
	client := newSide(t, old.Files(t, "agent"), asClient)
	listen, dial := server.ForServer(), client.Credentials().Clone()
	talk := func(works bool) {
		t.Helper()
		se, ce := exchange(t, listen, client.Config())
		if works && (se != nil || ce != nil) || !works && (se == nil || ce == nil) {
			t.Errorf("server: %v, client: %v; want it to work: %v", se, ce, works)
		}
		if err := shake(t, listen, dial); (err == nil) != works {
			t.Errorf("gRPC's handshake: %v; want it to work: %v", err, works)
		}
	}
	talk(true)

	// A renewed certificate of the same authority. While it does not fit the key
	// the old ones count.
	again := old.Files(t, "controller", "127.0.0.1")
	put(t, server.files.Cert, again.Cert)
	talk(true)
	talk(true)
	if n := strings.Count(server.log.String(), "certificate files are wrong"); n != 1 || !strings.Contains(server.log.String(), server.files.Key) {
		t.Errorf("want one line that names %s, got %d: %s", server.files.Key, n, server.log)
	}
	before := server.NotAfter()
	put(t, server.files.Key, again.Key)
	if after := server.NotAfter(); after.Before(before) || time.Until(after) > time.Hour {
		t.Errorf("it ends at %v, before at %v", after, before)
	}
	talk(true)
	if !strings.Contains(server.log.String(), "right again") {
		t.Errorf("the log does not say that it is right again: %s", server.log)
	}

	// Another authority, in two steps, or else one side does not know the other.
	other := renewed.Files(t, "agent")
	put(t, server.files.CA, other.CA)
	talk(false)
	put(t, client.files.Cert, other.Cert)
	put(t, client.files.Key, other.Key)
	talk(true)
	put(t, client.files.CA, other.CA)
	talk(false)
	own := renewed.Files(t, "controller", "127.0.0.1")
	put(t, server.files.Cert, own.Cert)
	put(t, server.files.Key, own.Key)
	talk(true)
}

// shake shakes hands as gRPC does.
func shake(t *testing.T, server *tls.Config, client credentials.TransportCredentials) error {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	done := make(chan error, 1)
	go func() {
		a, err := l.Accept()
		if err == nil {
			defer a.Close()
			_, _, err = credentials.NewTLS(server).ServerHandshake(a)
		}
		done <- err
	}()
	b, err := net.Dial("tcp", l.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _, err = client.ClientHandshake(t.Context(), "127.0.0.1", b)
	b.Close()
	return errors.Join(err, <-done)
}

func TestThereMustBeSomethingRightToBeginWith(t *testing.T) {
	_, err := tlsconf.Reload(func() (*tls.Config, error) {
		return tlsconf.Files{Cert: "/absent.pem", Key: "/absent.pem", CA: "/absent.pem"}.Server()
	}, slog.Default())
	if err == nil || !strings.Contains(err.Error(), "/absent.pem") {
		t.Errorf("error %v", err)
	}
}
