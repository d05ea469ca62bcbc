package switchsim

import (
	"bufio"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"sync"
	"sync/atomic"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/afpacket"
	"github.com/shunt-sdn/shunt/switchsim/pipeline"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// sendQueue is how many messages wait for a slow controller. Packet-ins are
// dropped when half of it is taken, so that replies find room.
const sendQueue = 2048

// writeTimeout ends a connection whose peer takes nothing for so long.
const writeTimeout = 30 * time.Second

// conn is a connection to a controller or a tool.
type conn struct {
	s       *Switch
	nc      net.Conn
	log     *slog.Logger
	service bool // it connected to us: no asynchronous messages until it asks
	send    chan []byte
	ended   chan struct{} // closed when the connection is over
	endOnce sync.Once
	reason  error
	heard   atomic.Int64 // UnixNano of the last message

	out    *pipeline.Executor // for packet-outs
	writer *afpacket.Writer

	// Guarded by Switch.mu.
	ready       bool // the handshake is done
	role        uint32
	missSendLen uint16
	async       asyncMasks
}

// asyncMasks say which asynchronous messages a controller gets: bits by reason,
// [0] for master and equal, [1] for slave.
type asyncMasks struct{ packetIn, portStatus, flowRemoved [2]uint32 }

var defaultAsync = asyncMasks{
	packetIn:    [2]uint32{1<<wire.ReasonNoMatch | 1<<wire.ReasonAction, 0},
	portStatus:  [2]uint32{7, 7},
	flowRemoved: [2]uint32{15, 0},
}

// serve speaks OpenFlow on nc until it ends, and returns why it did.
func (s *Switch) serve(ctx context.Context, nc net.Conn, service bool) error {
	c := &conn{
		s: s, nc: nc, service: service, log: s.cfg.Log.With("controller", nc.RemoteAddr().String()),
		send: make(chan []byte, sendQueue), ended: make(chan struct{}),
		out: s.pipe.NewExecutor(false), writer: afpacket.NewWriter(),
		role: wire.RoleEqual, async: defaultAsync,
	}
	if !service {
		c.missSendLen = 128
	}
	c.heard.Store(time.Now().UnixNano())
	s.mu.Lock()
	s.conns[c] = struct{}{}
	s.mu.Unlock()
	var wg sync.WaitGroup
	wg.Go(func() { c.end(c.write()) })
	wg.Go(func() {
		select {
		case <-ctx.Done():
			c.end(ctx.Err())
		case <-c.ended:
		}
	})
	if !service {
		wg.Go(c.probe)
	}
	c.end(c.read(ctx))
	wg.Wait()
	s.mu.Lock()
	delete(s.conns, c)
	s.mu.Unlock()
	return c.reason
}

// end closes the connection; the first reason counts.
func (c *conn) end(reason error) {
	c.endOnce.Do(func() {
		c.reason = reason
		close(c.ended)
		// What is queued (an error that says why) gets a moment to leave.
		c.nc.SetReadDeadline(time.Now())
		time.AfterFunc(200*time.Millisecond, func() { c.nc.Close() })
	})
}

// reply queues a message and waits for room; it gives up when the connection ends.
func (c *conn) reply(msg []byte) {
	select {
	case c.send <- msg:
	case <-c.ended:
	}
}

// notify queues an asynchronous message that may be dropped.
func (c *conn) notify(msg []byte) {
	if len(c.send) < sendQueue/2 {
		c.reply(msg)
	}
}

// fail answers a request with an error.
func (c *conn) fail(err *wire.Error, request []byte) {
	c.log.Debug("request refused", "type", wire.ParseHeader(request).Type, "err", err)
	msg := wire.ErrorMessage(err, request)
	late := c.s.cfg.Misbehaviour.LateErrors
	if late == 0 || err.Type == wire.HelloFailed {
		c.reply(msg)
		return
	}
	c.s.goRun(func(ctx context.Context) {
		if sleep(ctx, late) {
			c.reply(msg)
		}
	})
}

// write sends what is queued, as much at once as there is.
func (c *conn) write() error {
	defer c.nc.Close()
	w := bufio.NewWriterSize(c.nc, 64<<10)
	for {
		c.nc.SetWriteDeadline(time.Now().Add(writeTimeout))
		var msg []byte
		select {
		case msg = <-c.send:
		default:
			if err := w.Flush(); err != nil {
				return err
			}
			select {
			case msg = <-c.send:
			case <-c.ended:
				return nil
			}
		}
		if _, err := w.Write(msg); err != nil {
			return err
		}
	}
}

func (c *conn) read(ctx context.Context) error {
	r := bufio.NewReaderSize(c.nc, 64<<10)
	c.reply(hello())
	first, err := wire.ReadMessage(r)
	if err != nil {
		return fmt.Errorf("handshake: %w", err)
	}
	if !speaks13(first) {
		c.fail(wire.ErrIncompatible, first)
		return errors.New("handshake: the peer does not speak OpenFlow 1.3")
	}
	c.setReady()
	level := slog.LevelInfo
	if c.service {
		level = slog.LevelDebug // tools come and go
	}
	c.log.Log(ctx, level, "connected")
	for n := 1; ; n++ {
		msg, err := wire.ReadMessage(r)
		if errors.Is(err, io.EOF) && !errors.Is(err, io.ErrUnexpectedEOF) {
			return errors.New("closed by the peer")
		}
		if err != nil {
			return err
		}
		c.heard.Store(time.Now().UnixNano())
		c.handle(ctx, msg)
		if limit := c.s.cfg.Misbehaviour.DropAfter; limit > 0 && n >= limit && !c.service {
			return errDropped
		}
	}
}

func (c *conn) setReady() {
	c.s.mu.Lock()
	defer c.s.mu.Unlock()
	c.ready = true
}

// hello offers OpenFlow 1.3 alone, with the bitmap of versions, 7.5.1.
func hello() []byte {
	b := wire.Message(wire.TypeHello, 1)
	b = binary.BigEndian.AppendUint16(b, 1)
	b = binary.BigEndian.AppendUint16(b, 8)
	b = binary.BigEndian.AppendUint32(b, 1<<wire.Version)
	return wire.Finish(b)
}

// speaks13 reports whether a first message is a hello that leads to OpenFlow 1.3.
func speaks13(msg []byte) bool {
	h := wire.ParseHeader(msg)
	if h.Type != wire.TypeHello {
		return false
	}
	for e := msg[wire.HeaderLen:]; len(e) >= 4; {
		typ, size := binary.BigEndian.Uint16(e), int(binary.BigEndian.Uint16(e[2:]))
		if size < 4 || size > len(e) {
			break
		}
		if typ == 1 && size >= 8 {
			return binary.BigEndian.Uint32(e[4:])&(1<<wire.Version) != 0
		}
		e = e[min((size+7)/8*8, len(e)):]
	}
	return h.Version >= wire.Version
}

// probe asks a silent controller for an echo, and gives up on it.
func (c *conn) probe() {
	every := c.s.cfg.ProbeInterval
	tick := time.NewTicker(every / 2)
	defer tick.Stop()
	for {
		select {
		case <-c.ended:
			return
		case now := <-tick.C:
			switch silent := now.Sub(time.Unix(0, c.heard.Load())); {
			case silent > 2*every:
				c.end(fmt.Errorf("the controller has been silent for %v", silent.Round(time.Millisecond)))
				return
			case silent > every:
				c.notify(wire.Finish(wire.Message(wire.TypeEchoRequest, 0)))
			}
		}
	}
}

// sleep waits; false: the context ended first.
func sleep(ctx context.Context, d time.Duration) bool {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return false
	case <-t.C:
		return true
	}
}
