package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Certificate says when a daemon's certificate ends.
func Certificate(notAfter func() time.Time) prometheus.Collector {
	return prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name: "shunt_certificate_expiry_timestamp_seconds",
		Help: "When the certificate that the daemon shows to others ends, seconds since 1970.",
	}, func() float64 { return float64(notAfter().Unix()) })
}
