package controller

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// leases are those that an export has.
func (d *daemon) leases(t *testing.T) (out []string) {
	t.Helper()
	r, err := d.policies().GetPolicy(t.Context(), &shuntv1.GetPolicyRequest{Leases: true}, grpc.WaitForReady(true))
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range r.Policy.Leases {
		out = append(out, fmt.Sprint(l.Service, "/", l.Dispatcher, " ", l.Address))
	}
	return out
}

// restored is what a request's leases become.
func restored(r *shuntv1.ApplyResponse) (out []string) {
	for _, l := range r.GetLeases() {
		out = append(out, strings.TrimSpace(fmt.Sprint(strings.TrimPrefix(l.Change.String(), "CHANGE_KIND_"), " ", l.Lease.Address, " ", l.Before)))
	}
	return out
}

func TestLeasesAreExportedAndRestored(t *testing.T) {
	d := start(t, testConfig(t))
	one := d.join(t, "dispatcher1")
	local := one.lease(t, "dispatcher1", false)
	d.join(t, "dispatcher2").lease(t, "dispatcher2", true)
	d.apply(t, "services: [{name: gone, vips: [10.10.0.81], port: 80}]")
	d.apply(t, "services: [{name: api, vips: [10.10.0.82], port: 80, dispatchers: [dispatcher1]}]")
	if _, err := d.policies().Delete(t.Context(), &shuntv1.DeleteRequest{Resources: []*shuntv1.ResourceRef{{Kind: shuntv1.ResourceKind_RESOURCE_KIND_SERVICE, Name: "gone"}}}); err != nil {
		t.Fatal(err)
	}
	eventually(t, "only what is needed is leased", func() bool { return len(d.leases(t)) == 5 })
	want := d.leases(t)
	exported, err := d.policies().GetPolicy(t.Context(), &shuntv1.GetPolicyRequest{Leases: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, x := range append(exported.Policy.Services, &shuntv1.ServicePolicy{}) {
		x.Version = 0
	}

	// What is there already changes nothing.
	again, err := d.policies().Apply(t.Context(), &shuntv1.ApplyRequest{Policy: exported.Policy, Prune: true})
	if err != nil {
		t.Fatal(err)
	}
	for _, l := range restored(again) {
		if !strings.HasPrefix(l, "UNCHANGED") {
			t.Error(l)
		}
	}
	d.stop()

	// A new database: other addresses, if dispatchers come in another order.
	cfg := testConfig(t)
	fresh := start(t, cfg)
	two := fresh.join(t, "dispatcher2")
	taken := two.lease(t, "dispatcher2", false)
	if taken != local {
		t.Fatalf("the first lease is %v, was %v", taken, local)
	}
	// Its agent uses it: to take it away would break connections.
	_, err = fresh.policies().Apply(t.Context(), &shuntv1.ApplyRequest{Policy: exported.Policy, Prune: true})
	if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), "its agent is connected and uses it") || !strings.Contains(s.Message(), "stop the agent of dispatcher2") {
		t.Fatalf("leases in use were replaced: %v", err)
	}
	if got := fresh.leases(t); len(got) != 2 {
		t.Errorf("a refused import left %q", got)
	}
	two.cancel()
	<-two.done
	var r *shuntv1.ApplyResponse
	eventually(t, "the import is accepted", func() bool {
		r, err = fresh.policies().Apply(t.Context(), &shuntv1.ApplyRequest{Policy: exported.Policy, Prune: true, DryRun: true})
		return err == nil
	})
	if got := fresh.leases(t); len(got) != 2 {
		t.Errorf("a dry run left %q", got)
	}
	if got := restored(r); len(got) != 5 || !strings.Contains(strings.Join(got, ";"), "UPDATED") {
		t.Errorf("a dry run says %q", got)
	}
	if _, err := fresh.policies().Apply(t.Context(), &shuntv1.ApplyRequest{Policy: exported.Policy, Prune: true}); err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(want, fresh.leases(t)); diff != "" {
		t.Errorf("leases (-exported +restored):\n%s", diff)
	}
	back := fresh.join(t, "dispatcher1")
	eventually(t, "the dispatcher hears of it", func() bool {
		return strings.Contains(fmt.Sprint(back.latest().Services[0].Leases), fmt.Sprint(shuntv1.EndpointOf(local)))
	})
}

func TestAnImportIntoAStoppedControllersDatabase(t *testing.T) {
	cfg := testConfig(t)
	r := &shuntv1.ApplyRequest{Prune: true, Policy: policyOf(t, `
services: [{name: api, vips: [10.10.0.82], port: 80}]
leases:
- {service: web, dispatcher: dispatcher1, address: 172.31.0.77}
- {service: web, dispatcher: dispatcher1, address: "fd31::77"}
- {service: api, dispatcher: dispatcher1, address: 172.31.0.78}
`)}
	if _, err := Import(t.Context(), cfg, r, slog.New(slog.DiscardHandler)); err != nil {
		t.Fatal(err)
	}
	d := start(t, cfg)
	one := d.join(t, "dispatcher1")
	if got := one.lease(t, "dispatcher1", true).String(); got != "[fd31::77]:80" {
		t.Errorf("leased %s", got)
	}
	if got, want := d.leases(t), []string{"api/dispatcher1 172.31.0.78", "web/dispatcher1 172.31.0.77", "web/dispatcher1 fd31::77"}; cmp.Diff(want, got) != "" {
		t.Errorf("leases %q", got)
	}
	if _, err := Import(context.Background(), cfg, r, slog.New(slog.DiscardHandler)); err == nil || !strings.Contains(err.Error(), "import through it") {
		t.Errorf("while a controller runs: %v", err)
	}
}

func TestWrongLeasesAreRefusedWhole(t *testing.T) {
	cfg := testConfig(t)
	cfg.Nodes = []string{"dispatcher1", "dispatcher2", "dispatcher3", "server1"}
	d := start(t, cfg)
	one := d.join(t, "dispatcher1")
	local := one.lease(t, "dispatcher1", false)
	for _, x := range []struct{ name, leases, want string }{
		{"no such service", "{service: wep, dispatcher: dispatcher2, address: 172.31.0.9}", `leases[0].service: there is no service "wep"; did you mean "web"?`},
		{"no dispatcher", "{service: web, address: 172.31.0.9}", "leases[0].dispatcher: the lease has no dispatcher"},
		{"no such node", "{service: web, dispatcher: dispatcher9, address: 172.31.0.9}", `node "dispatcher9" is not in the nodes`},
		{"no dispatcher of the service", "{service: api, dispatcher: dispatcher2, address: 172.31.0.9}", `node "dispatcher2" is no dispatcher of service api`},
		{"no address", "{service: web, dispatcher: dispatcher2, address: 172.31.0}", `leases[0].address: "172.31.0" is not an IP address`},
		{"in no pool", "{service: web, dispatcher: dispatcher2, address: 172.32.0.9}", "172.32.0.9 is no session address of a configured pool; leave the lease out, or add its pool"},
		{"the pool's first", "{service: web, dispatcher: dispatcher2, address: 172.31.0.0}", "172.31.0.0 is no session address"},
		{"no vip of the family", `{service: api, dispatcher: dispatcher1, address: "fd31::9"}`, "service api has no vip of the family of fd31::9"},
		{"twice", "{service: web, dispatcher: dispatcher2, address: 172.31.0.9}, {service: web, dispatcher: dispatcher3, address: 172.31.0.9}", "leases[1].address: 172.31.0.9 is leased twice"},
		{"two addresses", "{service: web, dispatcher: dispatcher2, address: 172.31.0.9}, {service: web, dispatcher: dispatcher2, address: 172.31.0.8}", "leases[1]: 172.31.0.9 is leased to web/dispatcher2/4 already"},
		{"somebody else's", "{service: web, dispatcher: dispatcher2, address: " + local.Addr().String() + "}", "is leased to web/dispatcher1/4; leave this lease out"},
		{"in use", "{service: web, dispatcher: dispatcher1, address: 172.31.0.9}", "its agent is connected and uses it; leave this lease out to keep " + local.Addr().String()},
	} {
		p := policyOf(t, "services: [{name: api, vips: [10.10.0.82], port: 80, dispatchers: [dispatcher1]}]\nleases: ["+x.leases+"]")
		_, err := d.policies().Apply(t.Context(), &shuntv1.ApplyRequest{Policy: p})
		if s := status.Convert(err); s.Code() != codes.InvalidArgument || !strings.Contains(s.Message(), x.want) {
			t.Errorf("%s: %v, want %q", x.name, err, x.want)
		}
	}
	r, err := d.policies().GetPolicy(t.Context(), &shuntv1.GetPolicyRequest{})
	if err != nil || r.Revision != 0 || len(r.Policy.Services)+len(r.Policy.Leases) != 0 {
		t.Errorf("refused changes left %v, %v", r, err)
	}

	// Sessions on a server hold an address as a connected dispatcher does.
	d.join(t, "server1", heldAt("192.0.2.1:1000", local, shuntv1.Path_PATH_SWITCHED, ""))
	one.cancel()
	<-one.done
	asked := &shuntv1.ApplyRequest{Policy: policyOf(t, "leases: [{service: web, dispatcher: dispatcher1, address: 172.31.0.9}]")}
	eventually(t, "the dispatcher is seen to be gone", func() bool {
		_, err = d.policies().Apply(t.Context(), asked)
		return strings.Contains(status.Convert(err).Message(), "1 sessions live on it")
	})
}
