package attach

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// PreloadConfig says how sessions reach a server that runs with libshunt.so.
type PreloadConfig struct {
	// Socket is the path that the server's SHUNT_PRELOAD names for its port.
	Socket string
	// Connect is where the server's own listener accepts connections, on this
	// node. Its family is that of the sessions that the server gets.
	Connect netip.AddrPort
	// Connect6, if valid, is the same for IPv6 when Connect is an IPv4 address.
	Connect6 netip.AddrPort
	// Probe is how often the server's presence is looked at; 0 means a quarter
	// of a second.
	Probe time.Duration
	// OnReady, if set, is called from a goroutine of the attachment each time
	// Ready changes, starting from false.
	OnReady func(ready bool)
	Log     *slog.Logger // nil means none
}

// Preload is the attachment that passes sockets to an unmodified server: the
// library libshunt.so, loaded into it, returns them from the server's accept.
// The sessions outlive the agent.
//
// A session waits in the server's queue, a Unix-domain socket, and is announced
// by a knock, a connection to the server's own listener, which wakes it in
// whatever way it waits. docs/preload.md has the whole protocol.
type Preload struct {
	cfg    PreloadConfig
	log    *slog.Logger
	ways   []*way
	ready  atomic.Bool
	failed chan struct{} // asks the prober to look at once; capacity 1

	ctx     context.Context // ends with Close
	cancel  context.CancelFunc
	workers sync.WaitGroup // grows with mu held and ctx alive only

	mu      sync.Mutex
	pending map[*os.File]struct{} // knocks that the server has not answered; guarded by mu
}

// way leads to the listener of one family.
type way struct {
	six    bool
	queue  string
	target netip.AddrPort
	ready  bool // the prober's alone
}

var _ Attachment = (*Preload)(nil)

// NewPreload returns an attachment to a server, which need not run yet. The
// error says what is wrong with the configuration.
func NewPreload(cfg PreloadConfig) (*Preload, error) {
	if cfg.Socket == "" {
		return nil, errors.New("attach a preloaded server: no path of its socket is configured")
	}
	if cfg.Probe <= 0 {
		cfg.Probe = 250 * time.Millisecond
	}
	p := &Preload{
		cfg:     cfg,
		log:     orDiscard(cfg.Log).With("socket", cfg.Socket),
		failed:  make(chan struct{}, 1),
		pending: make(map[*os.File]struct{}),
	}
	for _, a := range []netip.AddrPort{cfg.Connect, cfg.Connect6} {
		if !a.IsValid() {
			continue
		}
		w := &way{queue: cfg.Socket, target: netip.AddrPortFrom(a.Addr().Unmap(), a.Port())}
		if w.target.Addr().Is6() {
			w.six = true
			w.queue += "6"
		}
		p.ways = append(p.ways, w)
	}
	if len(p.ways) == 0 || len(p.ways) == 2 && p.ways[0].six == p.ways[1].six {
		return nil, fmt.Errorf("attach the preloaded server of %s: want its listener's address, or one of each family, not %v and %v",
			cfg.Socket, cfg.Connect, cfg.Connect6)
	}
	p.ctx, p.cancel = context.WithCancel(context.Background())
	p.workers.Go(p.probe)
	return p, nil
}

// Ready implements Attachment: the server has a queue, and its listener accepts.
func (p *Preload) Ready() bool { return p.ready.Load() }

// Attach implements Attachment. It waits only for the kernel: a listener's
// backlog that is full is ErrBusy.
func (p *Preload) Attach(_ context.Context, fd int, m Meta) error {
	fail := func(err error) error {
		return fmt.Errorf("attach session %s of %v by %s: %w", m.ID, m.Client, p.cfg.Socket, err)
	}
	m.Client = netip.AddrPortFrom(m.Client.Addr().Unmap(), m.Client.Port())
	w := p.wayFor(m.Client.Addr())
	if w == nil {
		return fail(fmt.Errorf("%w for clients of this family: no such address of its listener is configured", ErrNotReady))
	}
	m.Idle = false // its library makes no difference
	frame, err := handoffproto.Session(m).Append(make([]byte, 0, 256))
	if err != nil {
		return fail(err)
	}
	if p.ctx.Err() != nil {
		return fail(ErrClosed)
	}
	k, err := w.give(frame, fd)
	if err != nil {
		if errors.Is(err, ErrNotReady) {
			p.look()
		}
		return fail(err)
	}
	// From here the session is the server's, also if the agent ends.
	syscall.Close(fd)
	k.announce()
	p.watch(w, k, m)
	return nil
}

// give puts a session into the server's queue and returns the knock that is to
// announce it. In this order: a knock that is accepted finds the place taken.
func (w *way) give(frame []byte, fd int) (knocking, error) {
	place, err := openQueue(w.queue)
	if err != nil {
		return -1, err
	}
	defer syscall.Close(place)
	k, err := knock(w.target)
	if err != nil {
		return -1, err
	}
	if err := deliver(place, frame, fd); err != nil {
		k.withdraw()
		return -1, err
	}
	return k, nil
}

func (p *Preload) wayFor(client netip.Addr) *way {
	for _, w := range p.ways {
		if w.six == client.Is6() {
			return w
		}
	}
	return nil
}

// look makes the prober look at once.
func (p *Preload) look() {
	select {
	case p.failed <- struct{}{}:
	default:
	}
}

// Shutdown implements Attachment. No session needs the agent, so it is Close.
func (p *Preload) Shutdown(context.Context) error { return p.Close() }

// Close implements Attachment. Sessions that the server has not accepted yet
// stay in its queue.
func (p *Preload) Close() error {
	p.mu.Lock()
	p.cancel()
	for f := range p.pending {
		f.Close()
	}
	p.mu.Unlock()
	p.workers.Wait()
	return nil
}
