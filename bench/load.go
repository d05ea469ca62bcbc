package main

import (
	"context"
	"fmt"
	"os/exec"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"
)

const (
	loadConnections = 32
	loadFor         = 3 * time.Second // each turn
)

// load compares what the ways carry when many clients ask at once. All of the
// lab shares the machine's processors, so it shows what a request costs in all,
// and not what a dispatcher or a server of its own could do.
func (b *bench) load(ctx context.Context) error {
	if _, err := exec.LookPath("wrk"); err != nil {
		return fmt.Errorf("the load is wrk's; apt-get install wrk: %w", err)
	}
	ways := b.ways()
	fmt.Printf("\n%d connections at a time; requests a second at the median of %d turns of %v\n", loadConnections, b.rounds, loadFor)
	fmt.Printf("%10s %14s %9s %11s %9s %22s\n", "size", "connections", "direct", "handed off", "HAProxy", "handed off / HAProxy")
	for _, c := range []struct {
		size  int
		alive bool
	}{{100, false}, {100, true}, {100_000, false}, {100_000, true}, {1_000_000, false}} {
		rates := make([][]float64, len(ways))
		for range b.rounds {
			for i, w := range ways {
				r, err := b.wrk(ctx, w.url(fmt.Sprintf("/bytes/%d", c.size)), c.alive)
				if err != nil {
					return err
				}
				rates[i] = append(rates[i], r)
			}
		}
		var median [3]float64
		for i := range ways {
			slices.Sort(rates[i])
			median[i] = rates[i][len(rates[i])/2]
		}
		connections := "one each"
		if c.alive {
			connections = "kept alive"
		}
		fmt.Printf("%10d %14s %9.0f %11.0f %9.0f %22.2f\n", c.size, connections, median[0], median[1], median[2], median[1]/median[2])
	}
	return nil
}

var (
	wrkRate    = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkFailure = regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*`)
)

// wrk returns how many requests a second were answered. One that fails is an error.
func (b *bench) wrk(ctx context.Context, url string, alive bool) (float64, error) {
	args := []string{"-t", "1", "-c", strconv.Itoa(loadConnections), "-d", loadFor.String(), "--timeout", "10s"}
	if !alive {
		args = append(args, "-H", "Connection: close")
	}
	out, err := b.lab.Exec(ctx, "client1", append([]string{"wrk"}, append(args, url)...)...)
	if err != nil {
		return 0, fmt.Errorf("wrk %s: %w\n%s", url, err, out)
	}
	if m := wrkFailure.Find(out); m != nil {
		return 0, fmt.Errorf("wrk %s: %s", url, strings.TrimSpace(string(m)))
	}
	m := wrkRate.FindSubmatch(out)
	if m == nil {
		return 0, fmt.Errorf("wrk %s: it gave no rate:\n%s", url, out)
	}
	return strconv.ParseFloat(string(m[1]), 64)
}
