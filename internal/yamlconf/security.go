package yamlconf

import (
	"go.yaml.in/yaml/v3"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
)

// Security is how a daemon and its peers prove who they are: the keys "tls" and
// "insecure", of which a file has one.
type Security struct {
	TLS      *yaml.Node // nil: the key is absent
	Files    tlsconf.Files
	Insecure At[bool]
}

// ReadTLS returns the reader of the key "tls"; whose names the daemon in errors.
func (s *Security) ReadTLS(r *Reader, whose string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		s.TLS = n
		var cert, key, ca At[string]
		r.Mapping(n, "tls",
			Needed("cert", "name the PEM file of "+whose+" certificate", Scalar(r, "tls.cert", &cert, Path)),
			Needed("key", "name the PEM file of the certificate's key", Scalar(r, "tls.key", &key, Path)),
			Needed("ca", "name the PEM file of the authority", Scalar(r, "tls.ca", &ca, Path)))
		s.Files = tlsconf.Files{Cert: cert.V, Key: key.V, CA: ca.V}
	}
}

// ReadInsecure returns the reader of the key "insecure".
func (s *Security) ReadInsecure(r *Reader) func(*yaml.Node) {
	return Scalar(r, "insecure", &s.Insecure, Bool)
}

// Check reports that neither or both are configured. root is the file's.
func (s *Security) Check(r *Reader, root *yaml.Node) {
	switch {
	case s.TLS == nil && !s.Insecure.V:
		r.Errorf(root, "write tls: {cert, key, ca}, or insecure: true on a trusted network", "neither TLS nor its absence is configured")
	case s.TLS != nil && s.Insecure.V:
		r.Errorf(s.Insecure.N, "keep one", "both tls and insecure")
	}
}
