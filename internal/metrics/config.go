package metrics

import (
	"go.yaml.in/yaml/v3"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// Config of the endpoint. The zero value means that there is none.
type Config struct {
	Listen string // host:port; empty: off
	PProf  bool   // profiles too, for whoever reaches the endpoint
}

// Read returns the reader of the key "metrics":
//
//	metrics: {listen: "127.0.0.1:9641", pprof: false}
func Read(r *conf.Reader, into *Config) func(*yaml.Node) {
	return func(n *yaml.Node) {
		var listen conf.At[string]
		var pprof conf.At[bool]
		r.Mapping(n, "metrics",
			conf.Needed("listen", "write host:port for Prometheus, for example 127.0.0.1:9641", conf.Scalar(r, "metrics.listen", &listen, conf.Listen)),
			conf.Optional("pprof", conf.Scalar(r, "metrics.pprof", &pprof, conf.Bool)))
		*into = Config{Listen: listen.V, PProf: pprof.V}
	}
}
