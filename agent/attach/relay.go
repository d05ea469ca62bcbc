package attach

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

// RelayConfig says how sessions reach an application over TCP.
type RelayConfig struct {
	// Connect is the application's address, "host:port" with an IP address, or
	// a name that resolves without delay.
	Connect string
	// DialTimeout bounds the connection to the application; 0 means one second.
	DialTimeout time.Duration
	// ProxyProtocol sends a PROXY protocol header, version 2, first, so that
	// the application learns the client's address.
	ProxyProtocol bool
	// Forwarded tells the application the client's address in each request.
	Forwarded Forwarded
	// Router, if set, is asked about each request but the first of a connection.
	Router Router
	// Answered, if set, is told the status of each answer that was passed on.
	Answered func(status int)
	// MaxHead bounds the head of a request, octets; 0 means httphead.DefaultMax.
	// Nobody looks at heads where there is neither Forwarded nor Router.
	MaxHead int
	// HeadTimeout is how long a head may take from its first octet on; 0 means
	// DefaultHeadTimeout.
	HeadTimeout time.Duration
	// Limits, if set, returns the service's MaxHead and HeadTimeout for a session
	// that comes; 0 means the above.
	Limits func(service string) (maxHead int, headTimeout time.Duration)
	// Timeouts limit sessions in which nothing moves.
	Timeouts Timeouts
	// Probe is how often an application that did not accept is tried again;
	// 0 means half a second.
	Probe time.Duration
	// OnReady, if set, is called from a goroutine of the relay each time Ready
	// changes, starting from false.
	OnReady func(ready bool)
	Log     *slog.Logger // nil means none
}

// DefaultHeadTimeout is that of dispatchers, which see the first head.
const DefaultHeadTimeout = 10 * time.Second

// Relayer is the attachment that gives sessions to an application by copying
// octets: the application needs to know nothing of Shunt.
type Relayer struct {
	cfg    RelayConfig
	log    *slog.Logger
	dialer net.Dialer
	ready  atomic.Bool
	failed chan struct{} // asks the prober to look at once; capacity 1

	ctx    context.Context // of the sessions and the prober
	cancel context.CancelCauseFunc

	open conversations // that may leave

	mu       sync.Mutex
	closed   bool           // no more sessions; guarded by mu
	sessions sync.WaitGroup // grows with mu held and closed false only
	prober   sync.WaitGroup
}

var (
	_ Attachment = (*Relayer)(nil)
	_ Vacater    = (*Relayer)(nil)
)

// NewRelay returns a relay to an application, which need not run yet. The
// error says what is wrong with the configuration.
func NewRelay(cfg RelayConfig) (*Relayer, error) {
	if host, port, err := net.SplitHostPort(cfg.Connect); err != nil || host == "" || port == "" {
		return nil, fmt.Errorf("relay to %q: want the application's address and port, such as 127.0.0.1:8080", cfg.Connect)
	}
	switch cfg.Forwarded {
	case ForwardedOff, ForwardedFor, ForwardedStandard:
	default:
		return nil, fmt.Errorf("relay to %s: forwarded %q is unknown; use %s or %s", cfg.Connect, cfg.Forwarded, ForwardedFor, ForwardedStandard)
	}
	if cfg.MaxHead <= 0 {
		cfg.MaxHead = httphead.DefaultMax
	}
	if cfg.HeadTimeout <= 0 {
		cfg.HeadTimeout = DefaultHeadTimeout
	}
	if cfg.DialTimeout <= 0 {
		cfg.DialTimeout = time.Second
	}
	if cfg.Probe <= 0 {
		cfg.Probe = 500 * time.Millisecond
	}
	r := &Relayer{
		cfg:    cfg,
		log:    orDiscard(cfg.Log).With("application", cfg.Connect),
		dialer: net.Dialer{Timeout: cfg.DialTimeout},
		failed: make(chan struct{}, 1),
	}
	r.dialer.SetMultipathTCP(false)
	r.ctx, r.cancel = context.WithCancelCause(context.Background())
	r.prober.Go(r.probe)
	return r, nil
}

// Ready implements Attachment: the last connection to the application succeeded.
func (r *Relayer) Ready() bool { return r.ready.Load() && r.ctx.Err() == nil }

// Attach implements Attachment. It connects to the application first.
func (r *Relayer) Attach(ctx context.Context, fd int, m Meta) error {
	if !r.begin() {
		return ErrClosed
	}
	client, backend, err := r.connect(ctx, fd, m)
	if err != nil {
		r.sessions.Done()
		return fmt.Errorf("attach session %s of %v: %w", m.ID, m.Client, err)
	}
	syscall.Close(fd)
	go func() {
		defer r.sessions.Done()
		r.relay(client, backend, m)
	}()
	return nil
}

// begin counts a session in, unless there shall be no more.
func (r *Relayer) begin() bool {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.closed {
		return false
	}
	r.sessions.Add(1)
	return true
}

func (r *Relayer) connect(ctx context.Context, fd int, m Meta) (client, backend *net.TCPConn, err error) {
	backend, err = r.dial(ctx)
	if err != nil {
		return nil, nil, err
	}
	if r.cfg.ProxyProtocol {
		destination := m.VIP
		if !destination.IsValid() {
			destination = m.Local
		}
		// It fits into the empty send buffer: this does not wait.
		if _, err := backend.Write(proxyHeader(m.Client, destination)); err != nil {
			backend.Close()
			return nil, nil, fmt.Errorf("%w: send the PROXY header to %s: %w", ErrNotReady, r.cfg.Connect, err)
		}
	}
	if client, err = duplicate(fd); err != nil {
		backend.Close()
		return nil, nil, err
	}
	return client, backend, nil
}

func (r *Relayer) dial(ctx context.Context) (*net.TCPConn, error) {
	c, err := r.dialer.DialContext(ctx, "tcp", r.cfg.Connect)
	if err == nil {
		return c.(*net.TCPConn), nil
	}
	if ctx.Err() != nil {
		return nil, fmt.Errorf("connect to the application at %s: %w", r.cfg.Connect, err)
	}
	select {
	case r.failed <- struct{}{}:
	default:
	}
	sentinel := ErrNotReady
	var ne net.Error
	if errors.As(err, &ne) && ne.Timeout() { // its backlog is full
		sentinel = ErrBusy
	}
	return nil, fmt.Errorf("%w: connect to the application at %s: %w", sentinel, r.cfg.Connect, err)
}

func (r *Relayer) relay(client, backend *net.TCPConn, m Meta) {
	var stats Stats
	var err error
	if r.cfg.Router == nil && r.cfg.Forwarded == ForwardedOff {
		stats, err = RelayWith(r.ctx, client, backend, r.cfg.Timeouts)
	} else {
		stats, err = relayHTTP(r.ctx, client, backend, &r.cfg, m, &r.open, r.log)
	}
	if err != nil {
		r.log.Debug("a relayed session was reset", "session", m.ID, "client", m.Client, "err", err,
			"to_application", stats.ToBackend, "to_client", stats.ToClient)
		return
	}
	r.log.Debug("a relayed session ended", "session", m.ID, "client", m.Client,
		"to_application", stats.ToBackend, "to_client", stats.ToClient)
}

// probe connects to the application until it accepts, and again after each
// failure of Attach: so Ready recovers without a session being risked.
func (r *Relayer) probe() {
	for r.ctx.Err() == nil {
		ctx, cancel := context.WithTimeout(r.ctx, r.cfg.DialTimeout)
		c, err := r.dialer.DialContext(ctx, "tcp", r.cfg.Connect)
		cancel()
		if err == nil {
			if r.cfg.ProxyProtocol {
				io.WriteString(c, localHeader) // only so that it does not complain
			}
			c.Close()
			r.setReady(true)
			select {
			case <-r.failed:
			case <-r.ctx.Done():
			}
			continue
		}
		if r.ctx.Err() == nil {
			r.setReady(false)
			r.log.Debug("the application does not accept", "err", err)
		}
		select {
		case <-time.After(r.cfg.Probe):
		case <-r.ctx.Done():
		}
	}
	r.setReady(false)
}

// setReady is called by the prober only.
func (r *Relayer) setReady(ready bool) {
	if r.ready.Swap(ready) == ready {
		return
	}
	r.log.Info("the application's state changed", "accepts", ready)
	if r.cfg.OnReady != nil {
		r.cfg.OnReady(ready)
	}
}

// Shutdown implements Attachment: it waits for the sessions' ends.
func (r *Relayer) Shutdown(ctx context.Context) error {
	r.refuse()
	done := make(chan struct{})
	go func() {
		r.sessions.Wait()
		close(done)
	}()
	var err error
	select {
	case <-done:
	case <-ctx.Done():
		err = ctx.Err()
	}
	r.Close()
	<-done
	return err
}

// Close implements Attachment: it resets the sessions.
func (r *Relayer) Close() error {
	r.refuse()
	r.cancel(ErrClosed)
	r.sessions.Wait()
	r.prober.Wait()
	return nil
}

func (r *Relayer) refuse() {
	r.mu.Lock()
	r.closed = true
	r.mu.Unlock()
}

func orDiscard(l *slog.Logger) *slog.Logger {
	if l == nil {
		return slog.New(slog.DiscardHandler)
	}
	return l
}
