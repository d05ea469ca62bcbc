// Package tlsconf loads the certificate files that Shunt's daemons use to
// prove to one another who they are: mutual TLS, version 1.3 or later, one
// certificate authority for the cluster.
//
// The files are read when a configuration is made; a Reloader makes one for each
// handshake, so that renewed files need no restart.
package tlsconf

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"
)

// Files names PEM files.
type Files struct {
	// Cert holds this daemon's certificate, followed by intermediates if any.
	Cert string
	// Key holds the private key of Cert.
	Key string
	// CA holds the certificates that peers' certificates must descend from.
	CA string
}

// Server returns a configuration for accepting connections: the peer must show
// a certificate of the CA. The error names the file at fault.
func (f Files) Server() (*tls.Config, error) {
	cert, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		ClientAuth:   tls.RequireAndVerifyClientCert,
		ClientCAs:    pool,
	}, nil
}

// Client returns a configuration for connecting to serverName, a DNS name or
// an IP address that the peer's certificate must carry. If it is empty the
// library that connects has to fill it in, as grpc does from its target.
func (f Files) Client(serverName string) (*tls.Config, error) {
	cert, pool, err := f.load()
	if err != nil {
		return nil, err
	}
	return &tls.Config{
		MinVersion:   tls.VersionTLS13,
		Certificates: []tls.Certificate{cert},
		RootCAs:      pool,
		ServerName:   serverName,
	}, nil
}

// Check reports what is missing from f, or nil.
func (f Files) Check() error {
	var errs []error
	for _, part := range []struct{ name, value string }{{"cert", f.Cert}, {"key", f.Key}, {"ca", f.CA}} {
		if part.value == "" {
			errs = append(errs, fmt.Errorf("tls: %s is missing; name its PEM file", part.name))
		}
	}
	return errors.Join(errs...)
}

func (f Files) load() (tls.Certificate, *x509.CertPool, error) {
	if err := f.Check(); err != nil {
		return tls.Certificate{}, nil, err
	}
	cert, err := tls.LoadX509KeyPair(f.Cert, f.Key)
	if err != nil {
		return cert, nil, fmt.Errorf("load certificate %s with key %s: %w", f.Cert, f.Key, err)
	}
	pem, err := os.ReadFile(f.CA)
	if err != nil {
		return cert, nil, fmt.Errorf("load certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	if !pool.AppendCertsFromPEM(pem) {
		return cert, nil, fmt.Errorf("load certificate authority %s: no PEM certificate in it", f.CA)
	}
	return cert, pool, nil
}
