package main

import (
	"context"
	"errors"
	"fmt"
	"os"
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
	fmt.Printf("%10s %14s %9s %11s %9s %22s %30s\n", "size", "connections", "direct", "handed off", "HAProxy", "handed off / HAProxy", "agent, HAProxy: µs a request")
	for _, c := range []struct {
		size  int
		alive bool
	}{{100, false}, {100, true}, {100_000, false}, {100_000, true}, {1_000_000, false}} {
		rates := make([][]float64, len(ways))
		spent := make([]time.Duration, len(ways)) // by the process that dispatches
		requests := make([]int, len(ways))
		for range b.rounds {
			for i, w := range ways {
				before, err := processorTime(w.front)
				if err != nil {
					return err
				}
				n, r, err := b.wrk(ctx, w.urls(fmt.Sprintf("/bytes/%d", c.size))[0], c.alive)
				if err != nil {
					return err
				}
				after, err := processorTime(w.front)
				if err != nil {
					return err
				}
				spent[i] += after - before
				requests[i] += n
				rates[i] = append(rates[i], r)
			}
		}
		var median, each [3]float64
		for i := range ways {
			slices.Sort(rates[i])
			median[i] = rates[i][len(rates[i])/2]
			each[i] = float64(spent[i].Microseconds()) / float64(requests[i])
		}
		connections := "one each"
		if c.alive {
			connections = "kept alive"
		}
		fmt.Printf("%10d %14s %9.0f %11.0f %9.0f %22.2f %22.1f %7.1f\n", c.size, connections, median[0], median[1], median[2], median[1]/median[2], each[1], each[2])
	}
	return nil
}

var (
	wrkCount   = regexp.MustCompile(`(\d+) requests in`)
	wrkRate    = regexp.MustCompile(`Requests/sec:\s+([\d.]+)`)
	wrkFailure = regexp.MustCompile(`(?m)^\s*(Socket errors|Non-2xx).*`)
)

// wrk returns how many requests were answered, in all and in a second. One that
// fails is an error.
func (b *bench) wrk(ctx context.Context, url string, alive bool) (requests int, rate float64, err error) {
	args := []string{"-t", "1", "-c", strconv.Itoa(loadConnections), "-d", loadFor.String(), "--timeout", "10s"}
	if !alive {
		args = append(args, "-H", "Connection: close")
	}
	out, err := b.lab.Exec(ctx, "client1", append([]string{"wrk"}, append(args, url)...)...)
	if err != nil {
		return 0, 0, fmt.Errorf("wrk %s: %w\n%s", url, err, out)
	}
	if m := wrkFailure.Find(out); m != nil {
		return 0, 0, fmt.Errorf("wrk %s: %s", url, strings.TrimSpace(string(m)))
	}
	count, perSecond := wrkCount.FindSubmatch(out), wrkRate.FindSubmatch(out)
	if count == nil || perSecond == nil {
		return 0, 0, fmt.Errorf("wrk %s: it gave no number:\n%s", url, out)
	}
	if requests, err = strconv.Atoi(string(count[1])); err == nil {
		rate, err = strconv.ParseFloat(string(perSecond[1]), 64)
	}
	return requests, rate, err
}

// tick is the unit of a process's times in /proc: USER_HZ, the same on all of
// Linux's architectures but one.
const tick = 10 * time.Millisecond

// processorTime is what a process has used; 0 of process 0. Part of the kernel's
// work on its packets is not in it: it happens when somebody else has the processor.
func processorTime(pid int) (time.Duration, error) {
	if pid == 0 {
		return 0, nil
	}
	b, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
	if err != nil {
		return 0, fmt.Errorf("processor time: %w", err)
	}
	_, rest, _ := strings.Cut(string(b), ") ") // after the name
	fields := strings.Fields(rest)
	if len(fields) < 13 {
		return 0, fmt.Errorf("processor time: /proc/%d/stat has %d fields", pid, len(fields))
	}
	user, err1 := strconv.ParseInt(fields[11], 10, 64)
	system, err2 := strconv.ParseInt(fields[12], 10, 64)
	return time.Duration(user+system) * tick, errors.Join(err1, err2)
}
