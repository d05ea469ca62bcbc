package demo

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"sync"
	"sync/atomic"

	"golang.org/x/sync/errgroup"

	"github.com/shunt-sdn/shunt/lab"
	"github.com/shunt-sdn/shunt/lab/app"
)

// run is one demo under way.
type run struct {
	lab  *lab.Lab
	plan Plan
	out  io.Writer
	base string // the service's URL

	before, after snapshot

	mu      sync.Mutex         // guards answers
	answers map[string]*answer // by node

	delivered atomic.Int64 // octets of bodies that arrived, either way
}

// answer is what one server gave.
type answer struct {
	small         int
	large         int
	octets        int64 // of bodies, sent
	octetsUploads int64 // of bodies, received
}

// transfers carries the plan out.
func (r *run) transfers(ctx context.Context, client *http.Client) error {
	if err := r.smallRequests(ctx, client); err != nil {
		return fmt.Errorf("small requests: %w", err)
	}
	if err := r.download(ctx, client); err != nil {
		return fmt.Errorf("download: %w", err)
	}
	if err := r.upload(ctx, client); err != nil {
		return fmt.Errorf("upload: %w", err)
	}
	return nil
}

func (r *run) smallRequests(ctx context.Context, client *http.Client) error {
	p := newProgress(r.out, fmt.Sprintf("%d requests of %d octets", r.plan.Requests, smallSize), int64(r.plan.Requests), "")
	defer p.end()
	g, ctx := errgroup.WithContext(ctx)
	g.SetLimit(parallel)
	for range r.plan.Requests {
		if ctx.Err() != nil {
			break
		}
		g.Go(func() error {
			node, err := r.fetch(ctx, client, smallSize, nil)
			if err != nil {
				return err
			}
			r.record(node, answer{small: 1, octets: smallSize})
			p.add(1)
			return nil
		})
	}
	return g.Wait()
}

func (r *run) download(ctx context.Context, client *http.Client) error {
	p := newProgress(r.out, "one download of "+megabytes(r.plan.Download), r.plan.Download, "B")
	defer p.end()
	node, err := r.fetch(ctx, client, r.plan.Download, p)
	if err != nil {
		return err
	}
	r.record(node, answer{large: 1, octets: r.plan.Download})
	return nil
}

// fetch gets and checks a document and returns the node that gave it.
func (r *run) fetch(ctx context.Context, client *http.Client, size int64, p *progress) (node string, err error) {
	res, err := r.do(ctx, client, http.MethodGet, fmt.Sprintf("/bytes/%d", size), nil, 0)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	v := app.NewVerifier(size)
	n, err := io.CopyBuffer(struct{ io.Writer }{v}, p.reader(res.Body), make([]byte, 256<<10))
	r.delivered.Add(n)
	if err == nil {
		err = v.Close()
	}
	if err != nil {
		return "", fmt.Errorf("%s from %s: %w", res.Request.URL, res.Header.Get(app.NodeHeader), err)
	}
	return res.Header.Get(app.NodeHeader), nil
}

func (r *run) upload(ctx context.Context, client *http.Client) error {
	size := r.plan.Upload
	p := newProgress(r.out, "one upload of "+megabytes(size), size, "B")
	defer p.end()
	sum := sha256.New()
	if _, err := app.NewContent(size).WriteTo(sum); err != nil {
		return err
	}
	res, err := r.do(ctx, client, http.MethodPost, "/echo", p.reader(app.NewContent(size)), size)
	if err != nil {
		return err
	}
	defer res.Body.Close()
	var got app.Echo
	if err := json.NewDecoder(res.Body).Decode(&got); err != nil {
		return fmt.Errorf("read what %s says it received: %w", res.Header.Get(app.NodeHeader), err)
	}
	if want := (app.Echo{Length: size, SHA256: hex.EncodeToString(sum.Sum(nil))}); got != want {
		return fmt.Errorf("%s received %+v, sent was %+v", res.Header.Get(app.NodeHeader), got, want)
	}
	r.delivered.Add(size)
	r.record(res.Header.Get(app.NodeHeader), answer{large: 1, octetsUploads: size})
	return nil
}

// do sends a request; an answer that is not 200 is an error.
func (r *run) do(ctx context.Context, client *http.Client, method, path string, body io.Reader, length int64) (*http.Response, error) {
	req, err := http.NewRequestWithContext(ctx, method, r.base+path, body)
	if err != nil {
		return nil, err
	}
	req.ContentLength = length
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	if res.StatusCode != http.StatusOK {
		res.Body.Close()
		return nil, fmt.Errorf("%s %s: %s", method, req.URL, res.Status)
	}
	return res, nil
}

func (r *run) record(node string, a answer) {
	r.mu.Lock()
	defer r.mu.Unlock()
	sum := r.answers[node]
	if sum == nil {
		sum = &answer{}
		r.answers[node] = sum
	}
	sum.small += a.small
	sum.large += a.large
	sum.octets += a.octets
	sum.octetsUploads += a.octetsUploads
}
