package tcprepair

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
	"net"
	"os"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A connection under traffic both ways moves back and forth between two hosts at
// random moments, with bytes in every queue and with packets of either direction
// lost on the way, and neither end can tell.
//
// SHUNT_SEED replays a run; what the kernels and the scheduler make of it differs
// all the same.
func TestAConnectionUnderTrafficMovesAtRandomMoments(t *testing.T) {
	seed := uint64(time.Now().UnixNano())
	if env := os.Getenv("SHUNT_SEED"); env != "" {
		var err error
		if seed, err = strconv.ParseUint(env, 10, 64); err != nil {
			t.Fatalf("SHUNT_SEED: %v", err)
		}
	}
	t.Logf("SHUNT_SEED=%d", seed)
	var all tally
	t.Run("with", func(t *testing.T) { // returns when its parallel tests have
		for i := range 16 {
			testJourney(t, seed, i, &all)
		}
	})
	t.Logf("of %d dumps, %d with unread, %d with unacknowledged, %d with unsent bytes; in %d the peer lacked unacknowledged ones",
		all.dumps.Load(), all.unread.Load(), all.unacked.Load(), all.unsent.Load(), all.lost.Load())
	for _, n := range []*atomic.Int32{&all.unread, &all.unacked, &all.unsent, &all.lost} {
		if n.Load() < 5 {
			t.Error("not every queue was in use often; the test has lost its grip")
		}
	}
}

// tally counts dumps by what they held.
type tally struct{ dumps, unread, unacked, unsent, lost atomic.Int32 }

// testJourney is one of the 16 combinations of address family and options.
func testJourney(t *testing.T, seed uint64, i int, all *tally) {
	family := "IPv4"
	if i&8 != 0 {
		family = "IPv6"
	}
	sack, timestamps, wscale := i&1 != 0, i&2 != 0, i&4 != 0
	t.Run(fmt.Sprintf("%s sack=%t timestamps=%t wscale=%t", family, sack, timestamps, wscale), func(t *testing.T) {
		t.Parallel()
		b := newBed(t)
		for path, on := range map[string]bool{"ipv4/tcp_sack": sack, "ipv4/tcp_timestamps": timestamps, "ipv4/tcp_window_scaling": wscale} {
			b.sysctl(b.client, path, map[bool]string{true: "1", false: "0"}[on])
		}
		b.sysctl(b.client, "ipv4/tcp_rmem", "4096 65536 262144") // so that windows fill up soon
		b.sysctl(b.client, "ipv4/tcp_invalid_ratelimit", "0")    // so that it answers probes less than half a second apart
		j := newJourney(b, family, rand.New(rand.NewPCG(seed, uint64(i))), all)
		s := j.run()
		if s.SACK != sack || s.Timestamps != timestamps || s.WscaleOK != wscale {
			t.Errorf("the last dump says sack %t, timestamps %t, wscale %t", s.SACK, s.Timestamps, s.WscaleOK)
		}
		b.noResets()
	})
}

const (
	journeyBytes = 3 << 20 // in each direction
	journeyMoves = 7
)

// journey is one connection and both of its applications.
type journey struct {
	*bed
	rng        *rand.Rand
	up, down   []byte // client to server, server to client
	client     net.Conn
	clientFD   int // a duplicate
	fd         int // the server's end,
	host       int // which is on this host
	stale      int // the frozen copy that the last move left on the other host
	read, sent int // positions in up and down at the server
	moves      []int
	last       *State
	tally      *tally

	mu       sync.Mutex
	turn     *sync.Cond // any change below
	gate     bool       // the client may read
	consumed int        // position in up that the server has read
	received int        // position in down that the client has read
	written  int        // position in up that the client has written
	dead     error      // of the client's goroutines
}

func newJourney(b *bed, family string, rng *rand.Rand, all *tally) *journey {
	j := &journey{bed: b, rng: rng, up: make([]byte, journeyBytes), down: make([]byte, journeyBytes), stale: -1, gate: true, tally: all}
	j.turn = sync.NewCond(&j.mu)
	fillRandom(rng, j.up)
	fillRandom(rng, j.down)
	for range journeyMoves {
		j.moves = append(j.moves, rng.IntN(2*journeyBytes*9/10))
	}
	slices.Sort(j.moves)
	j.client, j.fd = b.open(family)
	raw, err := j.client.(*net.TCPConn).SyscallConn()
	b.must(err)
	b.must(raw.Control(func(fd uintptr) { j.clientFD, err = unix.FcntlInt(fd, unix.F_DUPFD_CLOEXEC, 0) }))
	b.must(err)
	b.must(j.client.SetDeadline(time.Now().Add(2 * patience)))
	return j
}

func fillRandom(rng *rand.Rand, b []byte) {
	for i := range b {
		b[i] = byte(rng.Uint32())
	}
}

// run is the server's application, which moves itself.
func (j *journey) run() *State {
	var wg sync.WaitGroup
	wrng, rrng := rand.New(rand.NewPCG(j.rng.Uint64(), 0)), rand.New(rand.NewPCG(j.rng.Uint64(), 0))
	wg.Go(func() { j.die(j.clientWrites(wrng)) })
	wg.Go(func() { j.die(j.clientReads(rrng)) })
	defer func() {
		j.die(errors.New("the server has ended"))
		j.client.Close()
		wg.Wait()
		unix.Close(j.clientFD)
		unix.Close(j.fd)
		if j.stale >= 0 {
			j.must(CloseSilently(j.stale))
		}
	}()
	for j.read < len(j.up) || j.sent < len(j.down) {
		if len(j.moves) > 0 && j.read+j.sent >= j.moves[0] {
			j.moves = j.moves[1:]
			j.travel()
		}
		j.step(j.rng.IntN(3) != 0, j.rng.IntN(3) != 0)
	}
	j.end()
	return j.last
}

// step reads and writes what is possible, at least one of the two.
func (j *journey) step(read, write bool) {
	j.Helper()
	p := []unix.PollFd{{Fd: int32(j.fd)}}
	if (read || !write) && j.read < len(j.up) || j.sent == len(j.down) {
		p[0].Events |= unix.POLLIN
	}
	if (write || !read) && j.sent < len(j.down) || j.read == len(j.up) {
		p[0].Events |= unix.POLLOUT
	}
	if n, err := unix.Poll(p, int(patience.Milliseconds())); n == 0 && err == nil {
		j.Fatalf("nothing to do for %v: read %d, sent %d of %d; client: %v\nserver: %s\nclient: %s\nlast dump: %d unread, %d unacknowledged, %d unsent, window %+v",
			patience, j.read, j.sent, journeyBytes, j.failure(), j.vitals(j.fd), j.vitals(j.clientFD),
			len(j.last.Received), len(j.last.Unacked), len(j.last.Unsent), j.last.Window)
	}
	if p[0].Revents&unix.POLLIN != 0 && j.read < len(j.up) {
		j.readSome()
	}
	if p[0].Revents&unix.POLLOUT != 0 && j.sent < len(j.down) {
		j.writeSome(1 + j.rng.IntN(32<<10))
	}
}

func (j *journey) readSome() {
	j.Helper()
	buf := make([]byte, 1+j.rng.IntN(48<<10))
	n, err := unix.Read(j.fd, buf)
	if errors.Is(err, unix.EAGAIN) {
		return
	}
	j.must(err)
	if n == 0 {
		j.Fatalf("end of file after %d bytes", j.read)
	}
	if !bytes.Equal(buf[:n], j.up[j.read:j.read+n]) {
		j.Fatalf("the server read other bytes than the client wrote, at %d to %d", j.read, j.read+n)
	}
	j.read += n
	j.change(func() { j.consumed = j.read })
}

// writeSome returns whether anything was written.
func (j *journey) writeSome(limit int) bool {
	j.Helper()
	n, err := unix.Write(j.fd, j.down[j.sent:min(len(j.down), j.sent+limit)])
	if errors.Is(err, unix.EAGAIN) {
		return false
	}
	j.must(err)
	j.sent += n
	return n > 0
}

// travel moves the server's end to the other host, after giving its queues a
// random filling.
func (j *journey) travel() {
	j.Helper()
	lost := j.provoke()
	from, to := j.fd, 1-j.host
	j.must(Freeze(from))
	s, err := Dump(from)
	j.must(err)
	if same, err := s.Unchanged(from); err != nil || !same {
		j.Fatalf("the frozen socket changed (%v)", err)
	}
	if j.stale >= 0 {
		j.must(CloseSilently(j.stale))
	}
	j.stale = from
	j.fd = j.restore(to, s)
	j.steer(to)
	j.must(undeafen(j.clientFD))
	j.must(Activate(j.fd, s))
	j.host, j.last = to, s
	j.change(func() { j.gate = true })
	j.tally.dumps.Add(1)
	for _, c := range []struct {
		n     *atomic.Int32
		found bool
	}{
		{&j.tally.unread, len(s.Received) > 0}, {&j.tally.unacked, len(s.Unacked) > 0},
		{&j.tally.unsent, len(s.Unsent) > 0}, {&j.tally.lost, lost && len(s.Unacked) > 0},
	} {
		if c.found {
			c.n.Add(1)
		}
	}
}

// provoke brings about one of the situations in which a connection is hard to
// move. It returns whether the client lacks bytes that were sent to it.
func (j *journey) provoke() (lost bool) {
	j.Helper()
	if j.rng.IntN(4) != 0 { // do not read for a while
		j.await("unread bytes", func() bool {
			n, err := unix.IoctlGetInt(j.fd, unix.SIOCINQ)
			j.must(err)
			j.mu.Lock()
			defer j.mu.Unlock()
			// The writer may be waiting for the server to read it all.
			return n > 0 || j.written == len(j.up) || j.written == j.read
		})
	}
	switch kind := len(j.moves) % 4; {
	case kind == 0: // nothing in particular
	case kind == 1 && j.sent < len(j.down): // the client does not read: never-sent bytes pile up
		j.change(func() { j.gate = false })
		j.await("unsent bytes", func() bool {
			for j.sent < len(j.down) && j.writeSome(64<<10) {
			}
			return j.sent == len(j.down) || j.unsent() > 0
		})
	case kind == 2 && j.sent < len(j.down): // the client has bytes, the server lacks the acknowledgement
		j.must(deafen(j.fd))
		j.writeSome(1 + j.rng.IntN(8<<10))
	case kind == 3 && j.sent < len(j.down): // the client lacks the bytes
		j.step(false, true) // so that there is room
		j.must(deafen(j.clientFD))
		lost = j.writeSome(1 + j.rng.IntN(8<<10))
	}
	return lost
}

func (j *journey) unsent() int {
	n, err := unix.IoctlGetInt(j.fd, unix.SIOCOUTQNSD)
	j.must(err)
	return n
}

// vitals says what a stalled connection is waiting for.
func (j *journey) vitals(fd int) string {
	j.Helper()
	i := tcpInfo(j, fd)
	inFlight, unsent, err := outQueue(fd)
	j.must(err)
	unread, err := unix.IoctlGetInt(fd, unix.SIOCINQ)
	j.must(err)
	return fmt.Sprintf("%d in flight, %d unsent, %d unread; window %d to send, %d to receive; %d retransmits, %d backoffs, %d probes, rto %d us; "+
		"last sent %d ms ago, last received %d ms ago, last acknowledged %d ms ago; %d segments out of order",
		inFlight, unsent, unread, i.Snd_wnd, i.Rcv_wnd, i.Retransmits, i.Backoff, i.Probes, i.Rto,
		i.Last_data_sent, i.Last_data_recv, i.Last_ack_recv, i.Rcv_ooopack)
}

// end closes both directions in an orderly way.
func (j *journey) end() {
	j.Helper()
	if j.stale >= 0 { // its retransmissions would meet a client without a socket
		j.must(CloseSilently(j.stale))
		j.stale = -1
	}
	j.must(unix.Shutdown(j.fd, unix.SHUT_WR))
	j.mu.Lock()
	for j.received < len(j.down)+1 && j.dead == nil {
		j.turn.Wait()
	}
	dead := j.dead
	j.mu.Unlock()
	j.must(dead)
	j.must(j.client.(*net.TCPConn).CloseWrite())
	j.await("the client's end of file", func() bool {
		n, err := unix.Read(j.fd, make([]byte, 1))
		if n > 0 {
			j.Fatal("the server read more than the client wrote")
		}
		return n == 0 && err == nil
	})
}

// clientWrites writes in chunks, and now and then waits until the server has read
// everything.
func (j *journey) clientWrites(rng *rand.Rand) error {
	for at := 0; at < len(j.up); {
		n, err := j.client.Write(j.up[at:min(len(j.up), at+1+rng.IntN(40<<10))])
		if err != nil {
			return fmt.Errorf("the client writes at %d: %w", at, err)
		}
		at += n
		j.change(func() { j.written = at })
		if rng.IntN(16) == 0 {
			if err := j.wait(func() bool { return j.consumed == at }); err != nil {
				return err
			}
		}
	}
	return nil
}

// clientReads reads and compares down to its end, while the gate is open.
func (j *journey) clientReads(rng *rand.Rand) error {
	buf := make([]byte, 48<<10)
	for at := 0; ; {
		if err := j.wait(func() bool { return j.gate }); err != nil {
			return err
		}
		n, err := j.client.Read(buf[:1+rng.IntN(len(buf))])
		if errors.Is(err, io.EOF) && at == len(j.down) {
			j.change(func() { j.received = at + 1 })
			return nil
		}
		if err != nil {
			return fmt.Errorf("the client reads at %d: %w", at, err)
		}
		if at+n > len(j.down) || !bytes.Equal(buf[:n], j.down[at:at+n]) {
			return fmt.Errorf("the client read other bytes than the server wrote, at %d to %d", at, at+n)
		}
		at += n
		j.change(func() { j.received = at })
	}
}

func (j *journey) change(f func()) {
	j.mu.Lock()
	defer j.mu.Unlock()
	f()
	j.turn.Broadcast()
}

// wait waits for a condition under mu, or for the end of the journey.
func (j *journey) wait(f func() bool) error {
	j.mu.Lock()
	defer j.mu.Unlock()
	for !f() && j.dead == nil {
		j.turn.Wait()
	}
	return j.dead
}

func (j *journey) die(err error) {
	if err != nil {
		j.change(func() {
			if j.dead == nil {
				j.dead = err
			}
		})
	}
}

func (j *journey) failure() error {
	j.mu.Lock()
	defer j.mu.Unlock()
	return j.dead
}
