package peer

import "time"

// An offset bounds how far the target's clock is ahead of ours, from below.
// A ping sent at s and received at r, both on our clock, with the target's
// clock reading c in between, says: offset ≥ c − r. The bound that is used is
// the best of the last samples, so that drift cannot make it wrong for long.
type offset struct {
	samples [8]time.Duration
	n       int
}

func (o *offset) add(target, received time.Duration) {
	o.samples[o.n%len(o.samples)] = target - received
	o.n++
}

func (o *offset) known() bool { return o.n > 0 }

// ahead is the bound: how far the target's clock is ahead of ours, at least.
func (o *offset) ahead() time.Duration {
	best := o.samples[0]
	for _, s := range o.samples[:min(o.n, len(o.samples))] {
		best = max(best, s)
	}
	return best
}

// deadline turns a moment on our clock into one on the target's that is never
// later.
func (o *offset) deadline(ours time.Duration) time.Duration {
	return ours + o.ahead() - driftAllowance
}

// driftAllowance is what two monotonic clocks may drift apart while a sample
// is in use: 8 samples at pingEvery, at 100 ppm.
const driftAllowance = 8 * pingEvery / 10_000
