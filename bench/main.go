// Command bench measures what a hand-off costs, beside a direct connection in
// the same lab and the same minutes: Open vSwitch, three servers, a new
// connection for each request. It prints medians and ratios; a machine's noise
// hits both sides alike. See docs/benchmarks.md.
package main

import (
	"context"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strconv"
	"syscall"
	"time"

	"github.com/shunt-sdn/shunt/lab"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "probe" {
		probe(os.Args[2:])
		return
	}
	binary := flag.String("shunt", "bin/shunt", "the program to measure")
	steering := flag.String("steering", "conntrack", "flows or conntrack")
	rounds := flag.Int("rounds", 5, "measurements of each kind, in turn")
	live := flag.Int("sessions", 50_000, "live sessions for the second table; 0 leaves it out")
	load := flag.Bool("load", true, "measure many requests at once, too")
	preload := flag.String("preload", "preload/libshunt.so", "the library for the paper's experiment; empty leaves that out")
	congestion := flag.String("congestion", "", "the congestion control of all hosts, such as cubic; empty: the machine's")
	sleep := flag.Bool("sleep", false, "let idle processors halt")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if !*sleep {
		f, err := stayAwake()
		if err != nil {
			fmt.Fprintln(os.Stderr, "bench:", err)
			os.Exit(1)
		}
		defer f.Close()
	}
	if err := run(ctx, *binary, *preload, *steering, *congestion, *rounds, *live, *load); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, binary, preload, steering, congestion string, rounds, live int, load bool) (err error) {
	if binary, err = filepath.Abs(binary); err != nil {
		return err
	}
	err = inLab(ctx, congestion, lab.Options{Name: "bench", Switch: lab.SwitchOVS, Steering: steering, Binary: binary}, func(b *bench) error {
		b.rounds = rounds
		if err := b.addedTime(ctx); err != nil {
			return err
		}
		if load {
			if err := b.load(ctx); err != nil {
				return err
			}
		}
		if live == 0 {
			return nil
		}
		return b.liveSessions(ctx, live)
	})
	if err != nil || preload == "" {
		return err
	}
	if preload, err = filepath.Abs(preload); err != nil {
		return err
	}
	return paper(ctx, binary, preload, steering, congestion, rounds)
}

// inLab measures in a lab of its own, which is gone afterwards.
func inLab(ctx context.Context, congestion string, o lab.Options, measure func(*bench) error) (err error) {
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		if e := l.Down(context.WithoutCancel(ctx)); err == nil {
			err = e
		}
	}()
	b := &bench{lab: l}
	if err := b.control(ctx, congestion); err != nil {
		return err
	}
	stop, err := b.startProxy(ctx)
	if err != nil {
		return err
	}
	defer stop()
	return measure(b)
}

type bench struct {
	lab    *lab.Lab
	rounds int
	proxy  int // HAProxy's process
}

// control sets the congestion control of connections that begin from now on.
func (b *bench) control(ctx context.Context, algorithm string) error {
	if algorithm == "" {
		return nil
	}
	for _, h := range b.lab.Info().Hosts {
		cmd := exec.CommandContext(ctx, "sysctl", "-qw", "net.ipv4.tcp_congestion_control="+algorithm)
		cmd.Stderr = os.Stderr
		if err := b.lab.StartCommand(h.Name, cmd); err != nil {
			return err
		}
		if err := cmd.Wait(); err != nil {
			return fmt.Errorf("set the congestion control of %s to %s, which has to be in net.ipv4.tcp_allowed_congestion_control: %w", h.Name, algorithm, err)
		}
	}
	return nil
}

func (b *bench) vip(path string) []string {
	return []string{fmt.Sprintf("http://%s:%d%s", b.lab.Service().VIP, b.lab.Service().Port, path)}
}

// direct leads to all servers, like the other ways: a server that has answered the
// request before this one is quicker than one that has rested meanwhile.
func (b *bench) direct(path string) (urls []string) {
	for _, h := range b.lab.Info().Hosts {
		if h.Role == lab.RoleServer {
			urls = append(urls, fmt.Sprintf("http://%s:%d%s", h.Addresses[0], b.lab.Service().Port, path))
		}
	}
	return urls
}

// probe runs n requests in the client's namespace, to the URLs in turn, and returns
// how long each took, from connect to the last octet.
func (b *bench) probe(ctx context.Context, urls []string, size, n int) ([]time.Duration, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	cmd := exec.CommandContext(ctx, self, append([]string{"probe", strconv.Itoa(size), strconv.Itoa(n)}, urls...)...)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.lab.StartCommand("client1", cmd); err != nil {
		return nil, err
	}
	var took []time.Duration
	decodeErr := json.NewDecoder(out).Decode(&took)
	if err := cmd.Wait(); err != nil {
		return nil, fmt.Errorf("%v: %w", urls, err)
	}
	return took, decodeErr
}

// quantile of a sorted list.
func quantile(d []time.Duration, q float64) time.Duration { return d[int(q*float64(len(d)-1))] }

// way is one way to a server.
type way struct {
	name  string
	urls  func(path string) []string // to be asked in turn
	front int                        // the process that dispatches; 0: none
}

func (b *bench) ways() []way {
	agent := 0
	for _, h := range b.lab.Info().Hosts {
		if h.Name == "dispatcher1" {
			agent = h.PIDs["agent"]
		}
	}
	return []way{{"direct", b.direct, 0}, {"handed off", b.vip, agent}, {"HAProxy", b.proxied, b.proxy}}
}

// addedTime compares the ways to a server: directly, handed off, and through
// HAProxy on the dispatcher's host.
func (b *bench) addedTime(ctx context.Context) error {
	ways := b.ways()
	fmt.Println("Time from connect to the last octet, a new connection per request, milliseconds")
	fmt.Printf("%10s %12s %9s %9s %9s %12s %8s\n", "size", "way", "requests", "p50", "p99", "added p50", "ratio")
	// Short turns: what changes the machine's speed meanwhile shall hit all ways. Each
	// has as many requests for one server as for another.
	for _, c := range []struct{ size, turns, n int }{{100, 5, 102}, {1 << 20, 10, 9}, {16 << 20, 20, 6}} {
		took := make([][]time.Duration, len(ways))
		for range c.turns * b.rounds {
			for i, w := range ways {
				d, err := b.probe(ctx, w.urls(fmt.Sprintf("/bytes/%d", c.size)), c.size, c.n)
				if err != nil {
					return err
				}
				took[i] = append(took[i], d...)
			}
		}
		var direct time.Duration
		for i, w := range ways {
			slices.Sort(took[i])
			p50 := quantile(took[i], 0.5)
			if i == 0 {
				direct = p50
			}
			fmt.Printf("%10d %12s %9d %9s %9s %12s %8.2f\n", c.size, w.name, len(took[i]), ms(p50), ms(quantile(took[i], 0.99)), ms(p50-direct), float64(p50)/float64(direct))
		}
	}
	return nil
}

// liveSessions measures the same small request with and without n sessions that
// live meanwhile: keep-alive connections that were handed off and are idle.
func (b *bench) liveSessions(ctx context.Context, n int) error {
	const size = 100
	path := fmt.Sprintf("/bytes/%d", size)
	idle, err := b.rounded(ctx, path, size)
	if err != nil {
		return err
	}
	release, err := b.hold(ctx, n)
	if err != nil {
		return err
	}
	defer release()
	busy, err := b.rounded(ctx, path, size)
	if err != nil {
		return err
	}
	fmt.Printf("\nThe same for %d octets while other sessions live\n%10s %14s\n%10d %14s\n%10d %14s\nratio %.2f\n",
		size, "sessions", "p50", 0, ms(idle), n, ms(busy), float64(busy)/float64(idle))
	return nil
}

func (b *bench) rounded(ctx context.Context, path string, size int) (time.Duration, error) {
	var all []time.Duration
	for range b.rounds {
		d, err := b.probe(ctx, b.vip(path), size, 501)
		if err != nil {
			return 0, err
		}
		all = append(all, d...)
	}
	slices.Sort(all)
	return quantile(all, 0.5), nil
}

func ms(d time.Duration) string {
	return strconv.FormatFloat(float64(d.Microseconds())/1000, 'f', 3, 64)
}
