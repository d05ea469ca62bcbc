package policy

import (
	"sync/atomic"
	"time"
)

// allow is the generic cell rate algorithm (ITU-T I.371): next is the time, in
// nanoseconds, at which the bucket will be full again.
func allow(next *atomic.Int64, l RouteLimits, now time.Time) bool {
	step := int64(time.Second) / int64(l.RequestsPerSecond)
	burst := step * int64(or(l.Burst, l.RequestsPerSecond))
	for at := now.UnixNano(); ; {
		full := next.Load()
		then := max(full, at) + step
		if then-at > burst {
			return false
		}
		if next.CompareAndSwap(full, then) {
			return true
		}
	}
}
