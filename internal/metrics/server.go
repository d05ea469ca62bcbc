package metrics

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"runtime"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
)

// A Check says whether a part of the daemon can do its work.
type Check struct {
	Name string
	// Ready returns nil, or why not. It must not block.
	Ready func() error
}

// Options of a Server.
type Options struct {
	Config
	// Component is the daemon's name, and Version the program's: both are labels
	// of shunt_build_info.
	Component, Version string
	// Ready decides what /readyz answers. None: always ready.
	Ready []Check
	Log   *slog.Logger
}

// A Server is the endpoint of one daemon.
type Server struct {
	o        Options
	registry *prometheus.Registry
	listener net.Listener
}

// New makes an endpoint and listens, so that an address that is taken is an
// error at the start. If the configuration has none, nothing is listened on and
// Run only waits. Collectors registered with Registry are scraped from the first
// request on; Run answers it.
func New(o Options) (*Server, error) {
	s := &Server{o: o, registry: prometheus.NewRegistry()}
	info := prometheus.NewGaugeFunc(prometheus.GaugeOpts{
		Name:        "shunt_build_info",
		Help:        "Always 1; what the program was built from is in the labels.",
		ConstLabels: prometheus.Labels{"component": o.Component, "version": o.Version, "goversion": runtime.Version()},
	}, func() float64 { return 1 })
	s.registry.MustRegister(info, collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	if o.Listen == "" {
		return s, nil
	}
	var err error
	if s.listener, err = net.Listen("tcp", o.Listen); err != nil {
		return nil, fmt.Errorf("listen for Prometheus: %w; correct metrics.listen or remove the key metrics", err)
	}
	return s, nil
}

// Registry is where collectors are registered. A collector that is registered
// twice, or whose names clash, is a mistake in the program: MustRegister.
func (s *Server) Registry() *prometheus.Registry { return s.registry }

// Addr is where the endpoint listens; nil: it is off.
func (s *Server) Addr() net.Addr {
	if s.listener == nil {
		return nil
	}
	return s.listener.Addr()
}

// Close stops listening, for a Server that was perhaps never Run.
func (s *Server) Close() error {
	if s.listener == nil {
		return nil
	}
	if err := s.listener.Close(); !errors.Is(err, net.ErrClosed) {
		return err
	}
	return nil
}

// Run answers requests until ctx ends.
func (s *Server) Run(ctx context.Context) error {
	if s.listener == nil {
		<-ctx.Done()
		return nil
	}
	s.o.Log.Info("metrics are served", "address", s.listener.Addr(), "pprof", s.o.PProf)
	server := &http.Server{
		Handler:           s.handler(),
		ReadHeaderTimeout: 5 * time.Second,
		ErrorLog:          slog.NewLogLogger(s.o.Log.Handler(), slog.LevelDebug),
	}
	ended := context.AfterFunc(ctx, func() { server.Close() })
	defer ended()
	err := server.Serve(s.listener)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serve metrics on %v: %w", s.listener.Addr(), err)
}

// maxScrapes bounds how many scrapes are answered at once; more get 503.
const maxScrapes = 4

func (s *Server) handler() http.Handler {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(s.registry, promhttp.HandlerOpts{
		Registry: s.registry, MaxRequestsInFlight: maxScrapes, Timeout: 10 * time.Second,
		// What can be collected is: one broken part must not hide the others.
		ErrorHandling: promhttp.ContinueOnError,
		ErrorLog:      errorLog{s.o.Log},
	}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { fmt.Fprintln(w, "ok") })
	mux.HandleFunc("GET /readyz", s.readyz)
	if s.o.PProf {
		mux.HandleFunc("GET /debug/pprof/", pprof.Index)
		mux.HandleFunc("GET /debug/pprof/cmdline", pprof.Cmdline)
		mux.HandleFunc("GET /debug/pprof/profile", pprof.Profile)
		mux.HandleFunc("GET /debug/pprof/symbol", pprof.Symbol)
		mux.HandleFunc("GET /debug/pprof/trace", pprof.Trace)
	}
	return mux
}

// readyz answers 200, or 503 with a line for each part that is not ready.
func (s *Server) readyz(w http.ResponseWriter, _ *http.Request) {
	var missing []string
	for _, c := range s.o.Ready {
		if err := c.Ready(); err != nil {
			missing = append(missing, fmt.Sprintf("%s: %v", c.Name, err))
		}
	}
	if len(missing) == 0 {
		fmt.Fprintln(w, "ok")
		return
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	for _, m := range missing {
		fmt.Fprintln(w, m)
	}
}

type errorLog struct{ log *slog.Logger }

func (l errorLog) Println(v ...any) { l.log.Warn("a scrape was incomplete", "err", fmt.Sprint(v...)) }
