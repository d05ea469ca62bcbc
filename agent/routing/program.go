package routing

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/backoff"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/shunt-sdn/shunt/agent/httphead"
	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/policy"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// programs are the connections to operators' programs that choose servers.
type programs struct {
	log  *slog.Logger
	mu   sync.Mutex
	open map[string]*grpc.ClientConn // by address and TLS files
}

// RejectedError says that an operator's program refuses a request.
type RejectedError struct {
	Status int // 400 to 599
	Reason string
}

func (e *RejectedError) Error() string { return fmt.Sprintf("rejected with %d %s", e.Status, e.Reason) }

// Ask has an operator's program choose, if the choice wants that and its breaker
// lets it. Whatever goes wrong, the choice by the pool's algorithm stands. The
// error, if any, is a *RejectedError: the program's decision.
func (t *Table) Ask(ctx context.Context, rule *policy.Rule, c policy.Choice, q *policy.Request, head *httphead.Head, usable func(string) bool) (policy.Choice, error) {
	x := c.Ask
	if x == nil || !x.Allow() {
		return c, nil
	}
	ctx, cancel := context.WithTimeout(ctx, x.Config.Deadline)
	defer cancel()
	answer, err := t.programs.ask(ctx, x, request(rule, c, q, head, usable))
	if err != nil {
		if x.Failed(err) {
			t.log.Warn("an operator's program fails; the pool's algorithm chooses until it is tried again", "program", x.Config.Address, "err", err)
		}
		return c, nil
	}
	switch d := answer.Decision.(type) {
	case *shuntv1.ChooseResponse_Server:
		c, err = x.Settle(c, d.Server, usable)
		if err != nil {
			t.log.Warn("an operator's program chose wrongly", "err", err)
		}
		return c, nil
	case *shuntv1.ChooseResponse_Reject:
		if s := int(d.Reject.GetStatus()); s < 400 || s > 599 {
			x.Failed(fmt.Errorf("it rejects with status %d, want 400 to 599", s))
			return c, nil
		}
		x.Declined()
		t.state.Done(c.Server)
		reason := d.Reject.Reason
		if reason == "" {
			reason = http.StatusText(int(d.Reject.Status))
		}
		return c, &RejectedError{Status: int(d.Reject.Status), Reason: reason}
	}
	x.Declined()
	return c, nil
}

func request(rule *policy.Rule, c policy.Choice, q *policy.Request, head *httphead.Head, usable func(string) bool) *shuntv1.ChooseRequest {
	path, _, _ := strings.Cut(head.Target, "?") // as sent; q.Path is its normal form
	if !strings.HasPrefix(path, "/") {
		path = q.Path
	}
	m := &shuntv1.ChooseRequest{
		Service: rule.Service, Route: rule.Name, Pool: c.Pool, Method: q.Method, Host: q.Host, Path: path, Query: q.Query,
		Client: q.Client.String(), ClientPort: uint32(q.ClientPort),
	}
	for name, value := range head.Fields() {
		if wanted(c.Ask.Config.Headers, name) {
			m.Headers = append(m.Headers, &shuntv1.Header{Name: name, Value: value})
		}
	}
	for _, x := range c.Ask.Candidates(nil, usable) {
		m.Candidates = append(m.Candidates, &shuntv1.Candidate{Server: x.Server, Weight: x.Weight, Load: uint32(x.Load)})
	}
	return m
}

func wanted(names []string, name string) bool {
	return len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return http.CanonicalHeaderKey(n) == http.CanonicalHeaderKey(name) })
}

func (p *programs) ask(ctx context.Context, x *policy.Program, m *shuntv1.ChooseRequest) (*shuntv1.ChooseResponse, error) {
	conn, err := p.conn(x.Config)
	if err != nil {
		return nil, err
	}
	return shuntv1.NewExternalPolicyServiceClient(conn).Choose(ctx, m)
}

// redial is how long a program that has started again is not noticed, at most:
// about as long as its breaker stays open for.
var redial = grpc.ConnectParams{
	Backoff:           backoff.Config{BaseDelay: 100 * time.Millisecond, Multiplier: 1.6, Jitter: 0.2, MaxDelay: time.Second},
	MinConnectTimeout: 5 * time.Second,
}

// address tells connections apart.
func address(x policy.External) string {
	files := policy.ExternalTLS{}
	if x.TLS != nil {
		files = *x.TLS
	}
	return fmt.Sprintf("%s %v %q", x.Address, x.TLS != nil, files)
}

// keep closes the connections that pools do not want any more.
func (p *programs) keep(pools []policy.Pool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for key, c := range p.open {
		if !slices.ContainsFunc(pools, func(x policy.Pool) bool { return x.External != nil && address(*x.External) == key }) {
			c.Close() // it fails only if it was closed before
			delete(p.open, key)
		}
	}
}

// trust reads the files that the connection to a program is secured with.
func trust(files policy.ExternalTLS) (*tls.Config, error) {
	if files.CertFile != "" {
		return tlsconf.Files{CA: files.CAFile, Cert: files.CertFile, Key: files.KeyFile}.Client(files.ServerName)
	}
	conf := &tls.Config{ServerName: files.ServerName, MinVersion: tls.VersionTLS13}
	if files.CAFile == "" {
		return conf, nil
	}
	pem, err := os.ReadFile(files.CAFile)
	if err != nil {
		return nil, err
	}
	conf.RootCAs = x509.NewCertPool()
	if !conf.RootCAs.AppendCertsFromPEM(pem) {
		return nil, fmt.Errorf("%s has no certificate in PEM form", files.CAFile)
	}
	return conf, nil
}

func (p *programs) conn(x policy.External) (*grpc.ClientConn, error) {
	key := address(x)
	files := policy.ExternalTLS{}
	if x.TLS != nil {
		files = *x.TLS
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if c := p.open[key]; c != nil {
		return c, nil
	}
	creds := insecure.NewCredentials()
	if x.TLS != nil {
		conf, err := tlsconf.Reload(func() (*tls.Config, error) { return trust(files) }, p.log)
		if err != nil {
			return nil, fmt.Errorf("reach the program at %s: %w", x.Address, err)
		}
		creds = conf.Credentials()
	}
	target := x.Address
	if len(target) < 5 || target[:5] != "unix:" {
		target = "passthrough:///" + target
	}
	c, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds), grpc.WithConnectParams(redial))
	if err != nil {
		return nil, fmt.Errorf("reach the program at %s: %w", x.Address, err)
	}
	if p.open == nil {
		p.open = make(map[string]*grpc.ClientConn)
	}
	p.open[key] = c
	return c, nil
}

// Close ends the connections to operators' programs.
func (t *Table) Close() error {
	t.programs.mu.Lock()
	defer t.programs.mu.Unlock()
	var errs []error
	for _, c := range t.programs.open {
		errs = append(errs, c.Close())
	}
	t.programs.open = nil
	return errors.Join(errs...)
}
