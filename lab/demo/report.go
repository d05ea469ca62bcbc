package demo

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"text/tabwriter"
	"time"

	"github.com/shunt-sdn/shunt/lab"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// snapshot is what is counted before and after.
type snapshot struct {
	status   *shuntv1.GetStatusResponse
	nic      uint64 // octets through the dispatchers' NICs, both ways
	handoffs []*shuntv1.Handoff
}

func (r *run) snapshot(ctx context.Context, s *snapshot) error {
	operator, closer, err := r.lab.Operator()
	if err != nil {
		return err
	}
	defer closer.Close()
	if s.status, err = operator.GetStatus(ctx, &shuntv1.GetStatusRequest{}); err != nil {
		return fmt.Errorf("ask the controller: %w", err)
	}
	s.nic = 0
	for _, h := range r.lab.Info().Hosts {
		if h.Role != lab.RoleDispatcher {
			continue
		}
		c, err := r.lab.Counters(h.Name)
		if err != nil {
			return err
		}
		s.nic += c.Received + c.Sent
	}
	return nil
}

// settle takes the snapshot at the end, once the agents have reported the
// hand-off of every request.
func (r *run) settle(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	want := r.before.counted() + uint64(r.plan.Requests) + 2
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		if err := r.snapshot(ctx, &r.after); err != nil {
			return err
		}
		if r.after.counted() >= want {
			break
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("the controller knows of %d requests of %d: %w", r.after.counted()-r.before.counted(), want-r.before.counted(), ctx.Err())
		}
	}
	operator, closer, err := r.lab.Operator()
	if err != nil {
		return err
	}
	defer closer.Close()
	res, err := operator.ListHandoffs(ctx, &shuntv1.ListHandoffsRequest{Limit: uint32(min(r.plan.Requests+2, 10000))})
	if err != nil {
		return fmt.Errorf("ask the controller for the hand-offs: %w", err)
	}
	r.after.handoffs = res.GetHandoffs()
	return nil
}

// counted is the number of requests that the controller knows of.
func (s *snapshot) counted() uint64 {
	return s.status.GetHandoffsCompleted() + s.status.GetRequestsProxied()
}

func (r *run) report() {
	w := tabwriter.NewWriter(r.out, 0, 8, 2, ' ', tabwriter.AlignRight)
	fmt.Fprintln(w, "\nserver\tsmall requests\tlarge\toctets sent\toctets received\t")
	for _, node := range slices.Sorted(maps.Keys(r.answers)) {
		a := r.answers[node]
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t%d\t\n", node, a.small, a.large, a.octets, a.octetsUploads)
	}
	fmt.Fprintln(w, "\nhand-off step\tp50 µs\tp99 µs\ttimes\t")
	for _, s := range steps(r.after.handoffs) {
		fmt.Fprintf(w, "%s\t%d\t%d\t%d\t\n", s.name, percentile(s.us, 50), percentile(s.us, 99), len(s.us))
	}
	_ = w.Flush()

	b, a := r.before.status, r.after.status
	fmt.Fprintf(r.out, "\nHand-offs: %d completed, %d rolled back, %d failed; %d requests proxied.\n",
		a.GetHandoffsCompleted()-b.GetHandoffsCompleted(), a.GetHandoffsRolledBack()-b.GetHandoffsRolledBack(),
		a.GetHandoffsFailed()-b.GetHandoffsFailed(), a.GetRequestsProxied()-b.GetRequestsProxied())
	delivered, nic := uint64(r.delivered.Load()), r.after.nic-r.before.nic
	fmt.Fprintf(r.out, "Octets delivered between client and servers: %d.\nOctets through the dispatcher's NIC, both ways, headers included: %d (%.2f %%).\n",
		delivered, nic, 100*float64(nic)/float64(max(delivered, 1)))
}

// step is one step of all hand-offs.
type step struct {
	name string
	us   []uint32
}

// steps sorts the durations of completed hand-offs by step, in the order in
// which steps happen; the last one is the whole.
func steps(handoffs []*shuntv1.Handoff) []step {
	var out []step
	total := step{name: "total"}
	for _, h := range handoffs {
		if h.GetOutcome() != shuntv1.Outcome_OUTCOME_COMPLETED {
			continue
		}
		total.us = append(total.us, h.GetTotalUs())
		for _, s := range h.GetSteps() {
			i := slices.IndexFunc(out, func(o step) bool { return o.name == s.GetName() })
			if i < 0 {
				i = len(out)
				out = append(out, step{name: s.GetName()})
			}
			out[i].us = append(out[i].us, s.GetDurationUs())
		}
	}
	return append(out, total)
}

// percentile is the smallest value that p of 100 values do not exceed.
func percentile(values []uint32, p int) uint32 {
	if len(values) == 0 {
		return 0
	}
	sorted := slices.SortedFunc(slices.Values(values), cmp.Compare[uint32])
	return sorted[max(0, (len(sorted)*p+99)/100-1)]
}
