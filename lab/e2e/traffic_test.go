package e2e

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"net"
	"net/http"
	"sync"
	"testing"
	"time"
)

// load is a bit of everything that a service sees, at a pace that leaves the
// machine time for others: short connections, such that live on after their
// answer, so that the switch is told of them, and rubbish. It goes on until stop
// is called, which fails the test if a good request failed.
func (x *observed) load(t *testing.T) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	vip := net.JoinHostPort(x.Service().VIPs()[0].String(), fmt.Sprint(x.Service().Port))
	short, dial := x.client("client1"), x.Dial("client1")
	var wg sync.WaitGroup
	repeat := func(what string, pace time.Duration, f func() error) {
		wg.Go(func() {
			tick := time.NewTicker(pace)
			defer tick.Stop()
			for {
				if err := f(); err != nil && ctx.Err() == nil {
					t.Errorf("%s: %v", what, err)
					return
				}
				select {
				case <-tick.C:
				case <-ctx.Done():
					return
				}
			}
		})
	}
	repeat("a short connection", 30*time.Millisecond, func() error {
		return download(ctx, short, "http://"+vip+"/bytes/1000", 1000)
	})
	for range 3 {
		repeat("a longer connection", time.Millisecond, func() error {
			conn, err := exchange(ctx, dial, vip, "GET /bytes/100 HTTP/1.1\r\nHost: x\r\n\r\n", http.StatusOK)
			if err != nil {
				return err
			}
			defer conn.Close()
			select {
			case <-time.After(400 * time.Millisecond):
			case <-ctx.Done():
			}
			return nil
		})
	}
	repeat("rubbish", 500*time.Millisecond, func() error {
		conn, err := exchange(ctx, dial, vip, "GET\r\n\r\n", http.StatusBadRequest)
		if err == nil {
			err = conn.Close()
		}
		return err
	})
	var once sync.Once
	return func() {
		once.Do(func() {
			cancel()
			wg.Wait()
		})
	}
}

// exchange sends a request and reads the answer. The connection stays open.
func exchange(ctx context.Context, dial func(context.Context, string, string) (net.Conn, error), address, request string, want int) (net.Conn, error) {
	conn, err := dial(ctx, "tcp", address)
	if err != nil {
		return nil, err
	}
	conn.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err = io.WriteString(conn, request); err == nil {
		var resp *http.Response
		if resp, err = http.ReadResponse(bufio.NewReader(conn), nil); err == nil {
			if _, err = io.Copy(io.Discard, resp.Body); resp.StatusCode != want {
				err = fmt.Errorf("%s, want %d", resp.Status, want)
			}
		}
	}
	if err != nil {
		conn.Close()
		return nil, err
	}
	return conn, nil
}
