package lab

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"os"
	"time"
)

// certify makes a certificate authority and a certificate for each daemon's
// host. The authority's key is forgotten.
func (l *Lab) certify() error {
	if err := os.Mkdir(l.paths.tls(""), 0o700); err != nil {
		return fmt.Errorf("make the directory of certificates: %w", err)
	}
	caKey, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return fmt.Errorf("make the certificate authority's key: %w", err)
	}
	ca := certificate("shunt lab " + l.st.Options.Name)
	ca.IsCA, ca.BasicConstraintsValid, ca.KeyUsage = true, true, x509.KeyUsageCertSign
	der, err := x509.CreateCertificate(rand.Reader, ca, ca, caKey.Public(), caKey)
	if err != nil {
		return fmt.Errorf("make the certificate authority: %w", err)
	}
	if err := writePEM(l.paths.authority(), "CERTIFICATE", der, 0o644); err != nil {
		return err
	}
	for _, h := range l.st.Hosts {
		if h.Role == RoleClient {
			continue
		}
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		if err != nil {
			return fmt.Errorf("make the key of %s: %w", h.Name, err)
		}
		c := certificate(h.Name)
		c.KeyUsage = x509.KeyUsageDigitalSignature
		c.ExtKeyUsage = []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth, x509.ExtKeyUsageClientAuth}
		c.DNSNames = []string{h.Name, "localhost"}
		c.IPAddresses = []net.IP{h.Management.AsSlice(), net.IPv4(127, 0, 0, 1)}
		der, err := x509.CreateCertificate(rand.Reader, c, ca, key.Public(), caKey)
		if err != nil {
			return fmt.Errorf("make the certificate of %s: %w", h.Name, err)
		}
		pkcs8, err := x509.MarshalPKCS8PrivateKey(key)
		if err != nil {
			return fmt.Errorf("encode the key of %s: %w", h.Name, err)
		}
		if err := writePEM(l.paths.certificate(h.Name), "CERTIFICATE", der, 0o644); err != nil {
			return err
		}
		if err := writePEM(l.paths.key(h.Name), "PRIVATE KEY", pkcs8, 0o600); err != nil {
			return err
		}
	}
	return nil
}

func certificate(name string) *x509.Certificate {
	now := time.Now()
	return &x509.Certificate{
		SerialNumber: new(big.Int).SetUint64(uint64(now.UnixNano())),
		Subject:      pkix.Name{CommonName: name},
		NotBefore:    now.Add(-time.Hour),
		NotAfter:     now.AddDate(1, 0, 0),
	}
}

func writePEM(path, kind string, der []byte, mode os.FileMode) error {
	if err := os.WriteFile(path, pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}), mode); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}
