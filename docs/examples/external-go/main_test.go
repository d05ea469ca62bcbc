package main

import (
	"context"
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// serve runs the program on a unix socket and returns a dispatcher's client.
func serve(t *testing.T, blocked ...string) shuntv1.ExternalPolicyServiceClient {
	t.Helper()
	address := "unix:" + filepath.Join(t.TempDir(), "s")
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- run(ctx, address, blocked) }()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn.Close()
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
	return shuntv1.NewExternalPolicyServiceClient(conn)
}

func ask(t *testing.T, c shuntv1.ExternalPolicyServiceClient, tenant string, loads ...uint32) *shuntv1.ChooseResponse {
	t.Helper()
	r := &shuntv1.ChooseRequest{Service: "web", Pool: "app", Method: "GET", Path: "/"}
	if tenant != "" {
		r.Headers = []*shuntv1.Header{{Name: "x-tenant", Value: tenant}}
	}
	for i, l := range loads {
		r.Candidates = append(r.Candidates, &shuntv1.Candidate{Server: fmt.Sprint("server", i+1), Weight: 1, Load: l})
	}
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	out, err := c.Choose(ctx, r, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestATenantStaysOnItsServerAndFewMoveWhenOneGoes(t *testing.T) {
	c := serve(t, "mallory")
	const n = 1000
	shares, moved := make(map[string]int), 0
	for i := range n {
		tenant := fmt.Sprint("tenant", i)
		first := ask(t, c, tenant, 1, 1, 1, 1).GetServer()
		shares[first]++
		if again := ask(t, c, tenant, 1, 1, 1, 1).GetServer(); again != first {
			t.Errorf("%s went to %s and then to %s", tenant, first, again)
		}
		if without := ask(t, c, tenant, 1, 1, 1).GetServer(); without != first { // server4 has gone
			moved++
			if first != "server4" {
				t.Errorf("%s moved from %s to %s", tenant, first, without)
			}
		}
	}
	for s, k := range shares {
		if k < n/4-60 || k > n/4+60 {
			t.Errorf("%s has %d of %d tenants", s, k, n)
		}
	}
	if moved != shares["server4"] {
		t.Errorf("%d tenants moved, server4 had %d", moved, shares["server4"])
	}
}

func TestOverloadBlockedTenantsAndRequestsWithoutOne(t *testing.T) {
	c := serve(t, "mallory")
	home := ask(t, c, "alice", 1, 1, 1).GetServer()
	loads := map[string][]uint32{"server1": {90, 1, 1}, "server2": {1, 90, 1}, "server3": {1, 1, 90}}[home]
	if got := ask(t, c, "alice", loads...).GetServer(); got == home || got == "" {
		t.Errorf("with 90 requests at %s alice went to %q", home, got)
	}
	if got := ask(t, c, "mallory", 1, 1, 1).GetReject(); got.GetStatus() != 403 {
		t.Errorf("mallory: %v", got)
	}
	if got := ask(t, c, "", 1, 1, 1); got.Decision != nil {
		t.Errorf("without a tenant: %v", got)
	}
}
