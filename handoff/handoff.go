package handoff

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"time"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// Options say where a listener gets its connections.
type Options struct {
	// Socket is the path of the agent's socket for this application, as in the
	// agent's configuration. Required.
	Socket string
	// Direct is an ordinary listener whose connections Accept returns as well,
	// as they are: for health checks, and for dispatchers that must
	// fall back to a proxy. The Listener closes it. Optional.
	Direct net.Listener
	// Name is shown in the agent's logs; empty means the program's name.
	Name string
	// Log gets connections to the agent and their ends; nil means none.
	Log *slog.Logger
}

// Listener is a net.Listener for handed-over connections. Its methods are safe
// for concurrent use.
type Listener struct {
	opt  Options
	log  *slog.Logger
	addr *net.UnixAddr

	// turn holds the right to receive from the agent: whoever calls Accept
	// takes it and reads the socket itself, so that a session reaches
	// its server without another goroutine in between.
	turn     chan struct{}
	receiver handoffproto.Receiver // used with turn
	backoff  backoff               // used with turn
	since    time.Time             // when the agent was reached last; used with turn

	direct     chan accepted // from the goroutine that accepts on Options.Direct; nil without
	directDone chan struct{} // closed at that goroutine's end

	questions questions // about requests
	vacancies vacancies
	answers   answers

	closing   chan struct{} // closed by Close
	abandoned chan struct{} // closed when nobody came for what was left
	closeOnce sync.Once
	closeErr  error

	mu      sync.Mutex
	agent   *net.UnixConn // nil while there is none; guarded by mu
	abandon *time.Timer   // set by Close; guarded by mu
	empty   bool          // closed, and nothing is left for Accept; guarded by mu
	waiting int           // connections not answered yet; guarded by mu
	drained chan struct{} // closed once empty and nobody waits
}

var _ net.Listener = (*Listener)(nil)

// Listen returns a listener for the sessions that the agent hands over. It
// tries once to connect to the agent, for as long as ctx lets it, but an agent
// that is not there yet is no error: Accept goes on trying. An error means
// that the path cannot be right, or that this process may not connect to it;
// Direct then stays open.
func Listen(ctx context.Context, opt Options) (*Listener, error) {
	if opt.Socket == "" {
		return nil, errors.New("handoff: Options.Socket is empty; it is the socket in the agent's configuration of this application")
	}
	if opt.Name == "" {
		opt.Name = filepath.Base(os.Args[0])
	}
	if len(opt.Name) > handoffproto.MaxText {
		opt.Name = opt.Name[:handoffproto.MaxText]
	}
	opt.Name = strings.ToValidUTF8(opt.Name, "")
	log := opt.Log
	if log == nil {
		log = slog.New(slog.DiscardHandler)
	}
	l := &Listener{
		opt:       opt,
		log:       log.With("socket", opt.Socket),
		addr:      &net.UnixAddr{Name: opt.Socket, Net: handoffproto.Network},
		turn:      make(chan struct{}, 1),
		closing:   make(chan struct{}),
		abandoned: make(chan struct{}),
		drained:   make(chan struct{}),
		questions: questions{open: make(map[uint32]chan string), perRequest: make(map[string]bool)},
	}
	if err := l.connectFirst(ctx); err != nil {
		if permanent(err) {
			return nil, err
		}
		l.log.Warn("no agent yet; trying again", "err", err)
	}
	l.turn <- struct{}{}
	if opt.Direct != nil {
		l.direct = make(chan accepted, 1)
		l.directDone = make(chan struct{})
		go l.acceptDirect()
	}
	return l, nil
}

// Addr returns the address of Direct, or that of the agent's socket without one.
func (l *Listener) Addr() net.Addr {
	if l.opt.Direct != nil {
		return l.opt.Direct.Addr()
	}
	return l.addr
}

// Accept waits for the next connection: a *Conn that was handed over, or
// whatever Direct accepted. Its errors:
//
//   - net.ErrClosed (by errors.Is) after Close, once nothing is left;
//   - an error of Direct's Accept, as it is;
//   - a temporary one, by its method Temporary, when a session was lost because
//     this process has no file descriptor left. http.Server waits and goes on.
//
// A missing agent is not an error.
func (l *Listener) Accept() (net.Conn, error) {
	select {
	case a := <-l.direct:
		return a.conn, a.err
	case <-l.turn:
	}
	c, err := l.receive()
	l.turn <- struct{}{}
	return c, err
}

func (l *Listener) isClosing() bool {
	select {
	case <-l.closing:
		return true
	default:
		return false
	}
}

func (l *Listener) errClosed() error {
	return &net.OpError{Op: "accept", Net: l.addr.Net, Addr: l.Addr(), Err: net.ErrClosed}
}
