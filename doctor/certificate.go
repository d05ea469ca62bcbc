package doctor

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"io/fs"
	"os"
	"strings"
	"time"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
)

// soon is when the end of a certificate is worth a warning.
const soon = 14 * 24 * time.Hour

// checkCertificate looks at a daemon's certificate. names are those that it must
// carry, each a DNS name or an IP address. It returns what to connect with, nil
// if there is nothing usable.
func (r *Report) checkCertificate(files tlsconf.Files, names []string, now time.Time) *tls.Config {
	conf, err := files.Client("")
	if err != nil {
		remedy := "correct tls in the configuration"
		if errors.Is(err, fs.ErrPermission) {
			remedy = "let the user shunt read it: chgrp shunt FILE; chmod 640 FILE"
		}
		r.fail("certificate", files.Cert, remedy, "%v", err)
		return nil
	}
	if info, err := os.Stat(files.Key); err == nil && info.Mode().Perm()&0o007 != 0 {
		r.warn("certificate-key", files.Key, "chmod o= "+files.Key, "everybody on this host can read the key")
	} else {
		r.ok("certificate-key", files.Key, "not for everybody to read")
	}
	leaf, err := x509.ParseCertificate(conf.Certificates[0].Certificate[0])
	if err != nil {
		r.fail("certificate", files.Cert, "make it anew", "%v", err)
		return nil
	}
	r.checkDates(files.Cert, leaf, now)
	if missing := missingNames(leaf, names); len(missing) > 0 {
		r.fail("certificate-name", files.Cert, "make one whose subject alternative names have it too", "the certificate is not for %s", strings.Join(missing, ", "))
	} else if len(names) > 0 {
		r.ok("certificate-name", files.Cert, "for %s", strings.Join(names, ", "))
	}
	intermediates := x509.NewCertPool()
	for _, der := range conf.Certificates[0].Certificate[1:] {
		if c, err := x509.ParseCertificate(der); err == nil {
			intermediates.AddCert(c)
		}
	}
	for _, use := range []struct {
		name string
		key  x509.ExtKeyUsage
	}{{"a client", x509.ExtKeyUsageClientAuth}, {"a server", x509.ExtKeyUsageServerAuth}} {
		// Its dates have a check of their own.
		at := now
		if at.Before(leaf.NotBefore) || at.After(leaf.NotAfter) {
			at = leaf.NotBefore.Add(time.Second)
		}
		_, err := leaf.Verify(x509.VerifyOptions{Roots: conf.RootCAs, Intermediates: intermediates, KeyUsages: []x509.ExtKeyUsage{use.key}, CurrentTime: at})
		if err != nil {
			r.fail("certificate-chain", files.Cert, "make one with the authority in tls.ca, for both client and server authentication", "as %s others do not believe it: %v", use.name, err)
			return conf
		}
	}
	r.ok("certificate-chain", files.Cert, "of the authority in %s", files.CA)
	return conf
}

func (r *Report) checkDates(file string, c *x509.Certificate, now time.Time) {
	switch left := c.NotAfter.Sub(now); {
	case now.Before(c.NotBefore):
		r.fail("certificate-expiry", file, "set the clock, or wait", "the certificate is not valid before %s", c.NotBefore.Format(time.RFC3339))
	case left < 0:
		r.fail("certificate-expiry", file, "put a new one there; the daemon reads it at its next connection", "the certificate has expired on %s", c.NotAfter.Format(time.RFC3339))
	case left < soon:
		r.warn("certificate-expiry", file, "put a new one there; the daemon reads it at its next connection", "the certificate expires on %s", c.NotAfter.Format(time.RFC3339))
	default:
		r.ok("certificate-expiry", file, "valid until %s", c.NotAfter.Format(time.DateOnly))
	}
}

func missingNames(c *x509.Certificate, names []string) []string {
	var missing []string
	for _, n := range names {
		if c.VerifyHostname(n) != nil {
			missing = append(missing, n)
		}
	}
	return missing
}
