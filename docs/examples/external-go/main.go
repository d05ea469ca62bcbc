// Command external-go is an example of a dispatch policy that an operator
// writes: dispatchers ask it for the server of each request of a pool that has
//
//	external: {address: "127.0.0.1:7070", headers: [X-Tenant]}
//
// Requests of one tenant go to one server as long as that has no more than
// twice the mean load, then to the tenant's next one, and so on: caches stay
// warm, and a tenant that is too loud spreads. Tenants that are named in
// -blocked get 403. It leaves requests without a tenant to the pool's own
// algorithm.
package main

import (
	"context"
	"flag"
	"fmt"
	"hash/fnv"
	"log/slog"
	"net"
	"os"
	"os/signal"
	"slices"
	"strings"
	"syscall"

	"google.golang.org/grpc"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func main() {
	listen := flag.String("listen", "127.0.0.1:7070", "host:port or unix:/path")
	blocked := flag.String("blocked", "", "tenants that are turned away, separated by commas")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, *listen, strings.Split(*blocked, ",")); err != nil {
		slog.Error("external policy", "err", err)
		os.Exit(1)
	}
}

// run serves until ctx ends.
func run(ctx context.Context, address string, blocked []string) error {
	network := "tcp"
	if path, ok := strings.CutPrefix(address, "unix:"); ok {
		network, address = "unix", path
		// What a killed run left behind.
		if err := os.Remove(path); err != nil && !os.IsNotExist(err) {
			return err
		}
	}
	l, err := net.Listen(network, address)
	if err != nil {
		return fmt.Errorf("listen for dispatchers: %w", err)
	}
	s := grpc.NewServer()
	shuntv1.RegisterExternalPolicyServiceServer(s, &tenants{blocked: blocked})
	stop := context.AfterFunc(ctx, s.GracefulStop)
	defer stop()
	slog.Info("external policy is up", "listen", l.Addr())
	return s.Serve(l)
}

// tenants is the policy.
type tenants struct {
	shuntv1.UnimplementedExternalPolicyServiceServer
	blocked []string
}

// Choose names the server of a request. Dispatchers wait for it no longer than
// the pool's deadline, 20 ms unless it says otherwise.
func (p *tenants) Choose(_ context.Context, r *shuntv1.ChooseRequest) (*shuntv1.ChooseResponse, error) {
	tenant := ""
	for _, h := range r.GetHeaders() {
		if strings.EqualFold(h.GetName(), "X-Tenant") {
			tenant = h.GetValue()
		}
	}
	switch {
	case tenant == "" || len(r.GetCandidates()) == 0:
		return &shuntv1.ChooseResponse{}, nil // let the pool's algorithm choose
	case slices.Contains(p.blocked, tenant):
		return &shuntv1.ChooseResponse{Decision: &shuntv1.ChooseResponse_Reject{
			Reject: &shuntv1.Reject{Status: 403, Reason: "tenant " + tenant + " is blocked"},
		}}, nil
	}
	return &shuntv1.ChooseResponse{Decision: &shuntv1.ChooseResponse_Server{Server: home(tenant, r.GetCandidates())}}, nil
}

// home is the first of the tenant's servers, in an order of its own, that is not
// overloaded. The order is that of rendezvous hashing: when a server goes, only
// its own tenants move.
func home(tenant string, candidates []*shuntv1.Candidate) string {
	load := uint32(0)
	for _, c := range candidates {
		load += c.GetLoad()
	}
	rank := func(c *shuntv1.Candidate) uint64 {
		h := fnv.New64a()
		fmt.Fprintf(h, "%s %s", tenant, c.GetServer())
		x := h.Sum64() // FNV's high bits are alike for names that are: mix them
		x = (x ^ x>>33) * 0xff51afd7ed558ccd
		return x ^ x>>33
	}
	order := slices.SortedFunc(slices.Values(candidates), func(a, b *shuntv1.Candidate) int {
		if rank(a) > rank(b) {
			return -1
		}
		return 1
	})
	for _, c := range order {
		if c.GetLoad()*uint32(len(candidates)) <= 2*load+uint32(len(candidates)) {
			return c.GetServer()
		}
	}
	return order[0].GetServer()
}
