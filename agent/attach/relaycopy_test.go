package attach

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"math/rand/v2"
	"net"
	"sync"
	"testing"
	"time"
)

// relayed is a client and a backend with a relay between them.
type relayed struct {
	client, backend *net.TCPConn
	cancel          context.CancelCauseFunc
	ended           chan relayEnd
}

type relayEnd struct {
	stats Stats
	err   error
}

func startRelay(t testing.TB, limits Timeouts) relayed {
	t.Helper()
	client, front := tcpPair(t, "127.0.0.1")
	backend, back := tcpPair(t, "::1")
	for _, c := range []*net.TCPConn{front, back} {
		c.SetDeadline(time.Unix(1, 0)) // left over from before: no longer matters
	}
	ctx, cancel := context.WithCancelCause(background())
	r := relayed{client, backend, cancel, make(chan relayEnd, 1)}
	var wg sync.WaitGroup
	wg.Go(func() {
		stats, err := RelayWith(ctx, front, back, limits)
		r.ended <- relayEnd{stats, err}
	})
	t.Cleanup(func() {
		cancel(nil)
		wg.Wait()
	})
	return r
}

func (r relayed) wantReset(t *testing.T, c *net.TCPConn, who string) {
	t.Helper()
	if n, err := io.Copy(io.Discard, c); !isReset(err) {
		t.Errorf("%s reads %d octets and %v, want a reset", who, n, err)
	}
}

func (r relayed) wantEOF(t *testing.T, c *net.TCPConn, want string) {
	t.Helper()
	if b, err := io.ReadAll(c); string(b) != want || err != nil {
		t.Errorf("read %q, %v; want %q and EOF", b, err, want)
	}
}

func TestEachEndMayCloseItsDirectionFirst(t *testing.T) {
	for _, clientFirst := range []bool{true, false} {
		r := startRelay(t, Timeouts{})
		first, second := r.client, r.backend
		if !clientFirst {
			first, second = second, first
		}
		io.WriteString(first, "request")
		first.CloseWrite()
		r.wantEOF(t, second, "request")
		// The other direction goes on, for as long as it likes.
		for range 3 {
			io.WriteString(second, "re")
			if _, err := io.ReadFull(first, make([]byte, 2)); err != nil {
				t.Errorf("client first %v: after the FIN: %v", clientFirst, err)
			}
		}
		io.WriteString(second, "ply")
		second.Close()
		r.wantEOF(t, first, "ply")
		end := wait(t, r.ended)
		want := Stats{ToBackend: 7, ToClient: 9}
		if !clientFirst {
			want = Stats{ToBackend: 9, ToClient: 7}
		}
		if end.err != nil || end.stats != want {
			t.Errorf("client first %v: %+v, %v; want %+v", clientFirst, end.stats, end.err, want)
		}
	}
}

func TestOctetsArriveUnchangedInBothDirectionsAtOnce(t *testing.T) {
	for _, limits := range []Timeouts{{}, {Idle: time.Minute}} {
		r := startRelay(t, limits)
		const size = 24 << 20
		var wg sync.WaitGroup
		for i, ends := range [][2]*net.TCPConn{{r.client, r.backend}, {r.backend, r.client}} {
			data := make([]byte, size+i)
			rnd := rand.NewChaCha8([32]byte{byte(i)})
			rnd.Read(data)
			wg.Go(func() {
				if _, err := io.Copy(ends[0], bytes.NewReader(data)); err != nil {
					t.Error(err)
				}
				ends[0].CloseWrite()
			})
			wg.Go(func() {
				h := sha256.New()
				if _, err := io.Copy(h, ends[1]); err != nil {
					t.Error(err)
				}
				if want := sha256.Sum256(data); !bytes.Equal(h.Sum(nil), want[:]) {
					t.Errorf("direction %d: other octets than were sent", i)
				}
			})
		}
		wg.Wait()
		if end := wait(t, r.ended); end.err != nil || end.stats != (Stats{size, size + 1}) {
			t.Errorf("%+v, %v", end.stats, end.err)
		}
	}
}

func TestAResetIsPassedOn(t *testing.T) {
	for _, c := range []struct {
		name            string
		fromClient, fin bool
	}{
		{"from the application", false, false},
		{"from the client", true, false},
		{"from the application after the client's FIN", false, true},
		{"from the client after the application's FIN", true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			r := startRelay(t, Timeouts{})
			resetting, other := r.backend, r.client
			if c.fromClient {
				resetting, other = other, resetting
			}
			io.WriteString(resetting, "x") // the relay is up
			io.ReadFull(other, make([]byte, 1))
			if c.fin {
				other.CloseWrite()
				r.wantEOF(t, resetting, "")
			}
			resetting.SetLinger(0)
			resetting.Close()
			r.wantReset(t, other, "the other end")
			if end := wait(t, r.ended); end.err == nil {
				t.Error("the relay reports no error")
			}
		})
	}
}

// A client that goes away while the application still sends.
func TestAnApplicationHearsThatItsReaderIsGone(t *testing.T) {
	r := startRelay(t, Timeouts{})
	go func() {
		io.ReadFull(r.client, make([]byte, 1<<20))
		r.client.Close() // with unread octets: a reset
	}()
	_, err := io.Copy(r.backend, endless{})
	if !isReset(err) {
		t.Errorf("the application's write: %v, want a reset", err)
	}
	if end := wait(t, r.ended); end.err == nil {
		t.Error("the relay reports no error")
	}
}

type endless struct{}

func (endless) Read(b []byte) (int, error) { return len(b), nil }

func TestTheContextsEndResetsBothEnds(t *testing.T) {
	why := errors.New("the agent stops")
	for _, limits := range []Timeouts{{}, {Idle: time.Minute}} {
		r := startRelay(t, limits)
		io.WriteString(r.client, "x")
		io.ReadFull(r.backend, make([]byte, 1))
		r.cancel(why)
		r.wantReset(t, r.client, "the client")
		r.wantReset(t, r.backend, "the application")
		if end := wait(t, r.ended); !errors.Is(end.err, why) {
			t.Errorf("the relay's error: %v, want %v in it", end.err, why)
		}
	}
}

func TestRelayWithAnEndedContext(t *testing.T) {
	client, front := tcpPair(t, "127.0.0.1")
	_, back := tcpPair(t, "127.0.0.1")
	ctx, cancel := context.WithCancel(background())
	cancel()
	if _, err := Relay(ctx, front, back); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
	if _, err := client.Read(make([]byte, 1)); !isReset(err) {
		t.Errorf("the client reads %v, want a reset", err)
	}
}

func TestIdleSessionsEnd(t *testing.T) {
	const limit = 100 * time.Millisecond
	idle := startRelay(t, Timeouts{Idle: limit})
	start := time.Now()
	idle.wantReset(t, idle.client, "the client")
	idle.wantReset(t, idle.backend, "the application")
	if end := wait(t, idle.ended); !errors.Is(end.err, errIdle) || time.Since(start) < limit {
		t.Errorf("ended after %v: %v", time.Since(start), end.err)
	}
}

// Now and then an octet in one direction keeps both open.
func TestSessionsThatAreHardlyIdleGoOn(t *testing.T) {
	const limit = 500 * time.Millisecond
	var wg sync.WaitGroup
	for _, fromClient := range []bool{true, false} {
		r := startRelay(t, Timeouts{Idle: limit})
		from, to := r.client, r.backend
		if !fromClient {
			from, to = to, from
		}
		wg.Go(func() {
			tick := time.NewTicker(limit / 10)
			defer tick.Stop()
			for start := time.Now(); time.Since(start) < 3*limit; {
				<-tick.C
				from.Write([]byte("x"))
				if _, err := io.ReadFull(to, make([]byte, 1)); err != nil {
					t.Errorf("from client %v, after %v: %v", fromClient, time.Since(start), err)
					return
				}
			}
			to.CloseWrite()
			r.wantEOF(t, from, "")
			from.Close()
			if end := <-r.ended; end.err != nil {
				t.Errorf("from client %v: %v", fromClient, end.err)
			}
		})
	}
	wg.Wait()
}

func TestASessionThatTheApplicationClosedDoesNotStayForEver(t *testing.T) {
	for _, limits := range []Timeouts{
		{HalfClosed: 50 * time.Millisecond},
		{HalfClosed: 50 * time.Millisecond, Idle: time.Minute},
		{HalfClosed: time.Minute, Idle: 50 * time.Millisecond},
	} {
		r := startRelay(t, limits)
		r.backend.Close()
		r.wantEOF(t, r.client, "") // but does not close
		if end := wait(t, r.ended); !errors.Is(end.err, errIdle) {
			t.Errorf("%+v: ended with %v", limits, end.err)
		}
	}
	// The client's FIN alone sets no limit: applications may think for long.
	r := startRelay(t, Timeouts{HalfClosed: time.Nanosecond})
	r.client.CloseWrite()
	r.wantEOF(t, r.backend, "")
	io.WriteString(r.backend, "answer")
	r.backend.Close()
	r.wantEOF(t, r.client, "answer")
	if end := wait(t, r.ended); end.err != nil {
		t.Error(end.err)
	}
}

func BenchmarkRelayThroughput(b *testing.B) {
	for name, limits := range map[string]Timeouts{"no limit": {}, "idle limit": {Idle: time.Minute}} {
		b.Run(name, func(b *testing.B) {
			r := startRelay(b, limits)
			buf := make([]byte, 1<<20)
			b.SetBytes(int64(len(buf)))
			go func() {
				io.Copy(io.Discard, r.client)
			}()
			r.backend.SetDeadline(time.Time{})
			r.client.SetDeadline(time.Time{})
			for b.Loop() {
				if _, err := r.backend.Write(buf); err != nil {
					b.Fatal(err)
				}
			}
			r.backend.Close()
			r.client.Close()
			<-r.ended
		})
	}
}
