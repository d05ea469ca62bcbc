// Package demo shows what Shunt does: it makes a lab, sends it requests, large
// and small, checks every octet, and says which way they went.
package demo

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"time"

	"github.com/shunt-sdn/shunt/lab"
)

// Plan is how much the demo does. The zero value does nothing.
type Plan struct {
	// Requests is the number of small requests, each on a connection of its own.
	Requests int
	// Download and Upload are the lengths of the large transfers, octets.
	Download, Upload int64
}

// Standard is what `make demo` does.
var Standard = Plan{Requests: 1000, Download: 200e6, Upload: 50e6}

// parallel is how many small requests are under way at a time.
const parallel = 8

// smallSize is the length of a small answer, octets.
const smallSize = 1000

// Run makes a lab, carries the plan out, prints a report, and removes the lab,
// however it ends. The error says what was wrong: an octet, a request, a set-up.
func Run(ctx context.Context, o lab.Options, plan Plan, out io.Writer) (err error) {
	fmt.Fprintf(out, "Making a cluster in network namespaces: switch (%s), controller, dispatcher, servers, client …\n", orSim(o.Switch))
	begin := time.Now()
	l, err := lab.Up(ctx, o)
	if err != nil {
		return err
	}
	defer func() {
		// Also after an interrupt: nothing may be left behind.
		err = errors.Join(err, l.Down(context.WithoutCancel(ctx)))
		if err == nil {
			fmt.Fprintln(out, "\nThe cluster is removed. All octets were right.")
		}
	}()
	fmt.Fprintf(out, "Ready after %.1f s: service http://%s, steering by %s.\n\n", time.Since(begin).Seconds(), l.Service().VIP, l.Info().Switch.Steering)

	service := netip.AddrPortFrom(l.Service().VIP, l.Service().Port)
	run := &run{lab: l, plan: plan, out: out, base: "http://" + service.String(), answers: map[string]*answer{}}
	if err := run.snapshot(ctx, &run.before); err != nil {
		return err
	}
	if err := run.transfers(ctx, l.Client("client1")); err != nil {
		return err
	}
	if err := run.settle(ctx); err != nil {
		return err
	}
	run.report()
	return nil
}

func orSim(kind string) string {
	if kind == "" {
		return lab.SwitchSim
	}
	return kind
}
