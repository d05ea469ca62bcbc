package e2e

import (
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// policy makes a YAML the whole policy and waits until every dispatcher heeds it.
func (c *cluster) policy(yaml string) {
	c.t.Helper()
	path := filepath.Join(c.t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte(yaml), 0o600); err != nil {
		c.t.Fatal(err)
	}
	c.exec("controller", binary, "apply", "-f", path, "--prune", "--wait")
}

// health is one server's, as operators see it.
func (c *cluster) health(server string) (x struct{ State, Health, Reason string }) {
	c.t.Helper()
	var list []struct{ State, Health, Reason string }
	if err := json.Unmarshal([]byte(c.exec("controller", binary, "get", "servers", server, "-o", "json")), &list); err != nil || len(list) != 1 {
		c.t.Fatalf("get servers %s: %v, %v", server, list, err)
	}
	return list[0]
}

// becomes waits for a server's state or health.
func (c *cluster) becomes(server, word string) {
	c.t.Helper()
	c.await(20*time.Second, func() string {
		if h := c.health(server); h.State != word && h.Health != word {
			return fmt.Sprintf("%s is %+v, not %s", server, h, word)
		}
		return ""
	})
}

// spread sends n requests, each on a connection of its own, and counts the
// servers that answer. A status of 500 or more is a failure.
func (c *cluster) spread(n, concurrently int, request func(i int) *http.Request) (servers map[string]int, failed []error) {
	c.t.Helper()
	h := c.client("client1")
	servers = make(map[string]int)
	var next atomic.Int64
	var mu sync.Mutex // guards servers and failed
	var wg sync.WaitGroup
	for range concurrently {
		wg.Go(func() {
			for i := int(next.Add(1)); i <= n; i = int(next.Add(1)) {
				server, err := answer(h, request(i))
				mu.Lock()
				if err != nil {
					failed = append(failed, err)
				} else {
					servers[server]++
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	return servers, failed
}

func answer(h *http.Client, r *http.Request) (server string, err error) {
	a, err := h.Do(r)
	if err != nil {
		return "", err
	}
	defer a.Body.Close()
	if _, err := io.Copy(io.Discard, a.Body); err != nil {
		return "", err
	}
	if a.StatusCode >= 500 {
		return "", fmt.Errorf("%s: status %d", r.URL, a.StatusCode)
	}
	return a.Header.Get("X-Node"), nil
}

// get makes requests for a path, with fields "Name: value".
func (c *cluster) get(path string, fields ...string) func(int) *http.Request {
	return func(int) *http.Request {
		r, err := http.NewRequestWithContext(c.t.Context(), http.MethodGet, c.urls(path)[0], nil)
		if err != nil {
			c.t.Error(err)
			return nil
		}
		for _, f := range fields {
			if name, value, ok := strings.Cut(f, ": "); ok {
				r.Header.Set(name, value)
			}
		}
		return r
	}
}

func (c *cluster) none(failed []error) {
	c.t.Helper()
	if len(failed) > 0 {
		c.t.Errorf("%d requests failed, the first: %v", len(failed), failed[0])
	}
}

// underLoad sends requests until f returns, and fails if one of them does.
func (c *cluster) underLoad(f func()) (servers map[string]int) {
	c.t.Helper()
	var done atomic.Bool
	result := make(chan map[string]int)
	h := c.client("client1")
	go func() {
		all := make(map[string]int)
		var mu sync.Mutex
		var wg sync.WaitGroup
		for range 8 {
			wg.Go(func() {
				for !done.Load() {
					server, err := answer(h, c.get("/bytes/3000")(0))
					if err != nil {
						c.t.Errorf("under load, at %s: %v", time.Now().UTC().Format("15:04:05.000"), err)
						return
					}
					mu.Lock()
					all[server]++
					mu.Unlock()
				}
			})
		}
		wg.Wait()
		result <- all
	}()
	f()
	done.Store(true)
	return <-result
}

// flags are those of shunt explain for a field, if there is one.
func flags(field string) []string {
	if field == "" {
		return nil
	}
	return []string{"-H", field}
}
