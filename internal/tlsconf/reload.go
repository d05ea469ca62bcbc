package tlsconf

import (
	"context"
	"crypto/tls"
	"log/slog"
	"net"
	"sync"
	"time"

	"google.golang.org/grpc/credentials"
)

// A Reloader makes a configuration anew for each handshake, so that a renewed
// certificate, key or authority counts from the next connection on without a
// restart. If what the files hold is wrong, as it is between the replacement of
// a certificate and that of its key, the last configuration that was right
// stays in use and the log says so.
type Reloader struct {
	load func() (*tls.Config, error)
	log  *slog.Logger

	mu     sync.Mutex
	good   *tls.Config
	failed string // the error that was logged last, empty after a success
}

// Reload returns a Reloader of what load returns, such as Files.Server. The
// error is load's: there must be something right to begin with.
func Reload(load func() (*tls.Config, error), log *slog.Logger) (*Reloader, error) {
	conf, err := load()
	if err != nil {
		return nil, err
	}
	return &Reloader{load: load, log: log, good: conf}, nil
}

// Config returns the configuration for one handshake. The caller must not
// change it.
func (r *Reloader) Config() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	conf, err := r.load()
	if err != nil {
		if r.failed != err.Error() {
			r.log.Error("the certificate files are wrong; those read before stay in use", "err", err)
		}
		r.failed = err.Error()
		return r.good
	}
	if r.failed != "" {
		r.log.Info("the certificate files are right again")
	}
	r.good, r.failed = conf, ""
	return conf
}

// ForServer returns a configuration for a listener.
func (r *Reloader) ForServer() *tls.Config {
	r.mu.Lock()
	defer r.mu.Unlock()
	conf := r.good.Clone()
	conf.GetConfigForClient = func(*tls.ClientHelloInfo) (*tls.Config, error) { return r.Config(), nil }
	return conf
}

// NotAfter is the end of the certificate that the next connection shows.
func (r *Reloader) NotAfter() time.Time { return r.Config().Certificates[0].Leaf.NotAfter }

// Credentials returns credentials for a client of gRPC.
func (r *Reloader) Credentials() credentials.TransportCredentials {
	return clientCredentials{credentials.NewTLS(r.Config()), r}
}

// clientCredentials are those of a Reloader; the embedded ones answer what does
// not depend on the files.
type clientCredentials struct {
	credentials.TransportCredentials
	files *Reloader
}

func (c clientCredentials) ClientHandshake(ctx context.Context, authority string, conn net.Conn) (net.Conn, credentials.AuthInfo, error) {
	return credentials.NewTLS(c.files.Config()).ClientHandshake(ctx, authority, conn)
}

func (c clientCredentials) Clone() credentials.TransportCredentials {
	return clientCredentials{c.TransportCredentials.Clone(), c.files}
}
