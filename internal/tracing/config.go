package tracing

import (
	"fmt"
	"strconv"

	"go.yaml.in/yaml/v3"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// Config of the export. The zero value exports nothing.
type Config struct {
	Endpoint string  // host:port of an OTLP/gRPC receiver; empty: off
	Insecure bool    // no TLS to it
	Sample   float64 // share of the traces begun here that are recorded, 0 to 1
}

// Read returns the reader of the key "tracing":
//
//	tracing: {endpoint: "127.0.0.1:4317", insecure: true, sample: 0.01}
func Read(r *conf.Reader, into *Config) func(*yaml.Node) {
	return func(n *yaml.Node) {
		var endpoint conf.At[string]
		var insecure conf.At[bool]
		var sample conf.At[float64]
		r.Mapping(n, "tracing",
			conf.Needed("endpoint", "write host:port of an OTLP/gRPC receiver, for example 127.0.0.1:4317", conf.Scalar(r, "tracing.endpoint", &endpoint, conf.Listen)),
			conf.Optional("insecure", conf.Scalar(r, "tracing.insecure", &insecure, conf.Bool)),
			conf.Optional("sample", conf.Scalar(r, "tracing.sample", &sample, parseShare)))
		*into = Config{Endpoint: endpoint.V, Insecure: insecure.V, Sample: sample.Or(1)}
	}
}

func parseShare(s string) (float64, error) {
	f, err := strconv.ParseFloat(s, 64)
	if err != nil || !(f >= 0 && f <= 1) {
		return 0, fmt.Errorf("is no share; write a number from 0 to 1")
	}
	return f, nil
}
