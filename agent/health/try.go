package health

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"os"
	"strings"

	"github.com/shunt-sdn/shunt/policy"
)

// bodyLimit is how much of a body is looked at, octets.
const bodyLimit = 64 << 10

// Dial connects to a TCP address, as a net.Dialer does.
type Dial func(ctx context.Context, network, address string) (net.Conn, error)

// try does one check; ctx ends it. The error says what was done and what is wrong.
func (c Check) try(ctx context.Context, dial Dial) error {
	ctx, cancel := context.WithTimeout(ctx, c.Spec.Timeout)
	defer cancel()
	var what string
	var err error
	if c.Spec.HTTP != nil {
		what = c.Spec.HTTP.Method + " " + c.Spec.HTTP.Path
		err = c.http(ctx, dial)
	} else {
		what = "connection to " + c.Address
		err = c.tcp(ctx, dial)
	}
	if err == nil {
		return nil
	}
	if errors.Is(err, context.DeadlineExceeded) || errors.Is(err, os.ErrDeadlineExceeded) {
		err = fmt.Errorf("no answer within %v", c.Spec.Timeout)
	}
	return fmt.Errorf("%s: %w", what, err)
}

func (c Check) http(ctx context.Context, dial Dial) error {
	spec := c.Spec.HTTP
	r, err := http.NewRequestWithContext(ctx, spec.Method, "http://"+c.Address+spec.Path, nil)
	if err != nil {
		return err
	}
	r.Host = c.Service
	if spec.Host != "" {
		r.Host = spec.Host
	}
	r.Header.Set("User-Agent", "shunt-health")
	// One connection per check, to this address alone, and redirects are answers.
	t := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return dial(ctx, "tcp", c.Address)
	}}
	answer, err := t.RoundTrip(r)
	if err != nil {
		return err
	}
	defer answer.Body.Close()
	expected := false
	for _, s := range spec.Statuses {
		expected = expected || s.From <= answer.StatusCode && answer.StatusCode <= s.To
	}
	if !expected {
		return fmt.Errorf("status %d", answer.StatusCode)
	}
	if spec.Body == "" {
		return nil
	}
	body, err := io.ReadAll(io.LimitReader(answer.Body, bodyLimit))
	if !bytes.Contains(body, []byte(spec.Body)) {
		if err != nil {
			return fmt.Errorf("read the body: %w", err)
		}
		return fmt.Errorf("status %d, but %q is not in the first %d octets of the body", answer.StatusCode, spec.Body, len(body))
	}
	return nil
}

func (c Check) tcp(ctx context.Context, dial Dial) error {
	conn, err := dial(ctx, "tcp", c.Address)
	if err != nil {
		return err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	spec := policy.TCPCheck{}
	if c.Spec.TCP != nil {
		spec = *c.Spec.TCP
	}
	if _, err := io.WriteString(conn, spec.Send); err != nil {
		return inTime(ctx, err)
	}
	got := make([]byte, len(spec.Expect))
	n, err := io.ReadFull(conn, got)
	if err != nil && (n > 0 || errors.Is(err, io.EOF)) && strings.HasPrefix(spec.Expect, string(got[:n])) {
		return inTime(ctx, fmt.Errorf("it sent %d of %d octets: %w", n, len(got), err))
	}
	if err != nil {
		return inTime(ctx, err)
	}
	if string(got) != spec.Expect {
		return fmt.Errorf("it sent %q, not %q", got, spec.Expect)
	}
	return nil
}

// inTime prefers the reason why the connection was closed.
func inTime(ctx context.Context, err error) error {
	if ctx.Err() != nil {
		return ctx.Err()
	}
	return err
}
