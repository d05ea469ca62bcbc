// Package metrics is the endpoint that Prometheus scrapes, with the health
// checks of orchestrators beside it: /metrics, /healthz, /readyz and, if it is
// asked for, /debug/pprof/. What is measured is the daemons' business: each
// registers its collectors.
package metrics
