package agent

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestSessionsThatCouldNotLeaveTryAgainTogether(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var d drain
		var tried []time.Duration
		begun := time.Now()
		f := func() { tried = append(tried, time.Since(begun)) }
		for range 3 {
			d.retry(f)
		}
		<-time.After(leaveAgain / 2)
		d.retry(f)
		<-time.After(leaveAgain)
		synctest.Wait()
		if len(tried) != 1 || tried[0] != leaveAgain {
			t.Errorf("tried after %v, want once after %v", tried, leaveAgain)
		}
		d.retry(f)
		d.end()
		d.retry(f)
		<-time.After(2 * leaveAgain)
		synctest.Wait()
		if len(tried) != 1 {
			t.Errorf("tried after the end: %v", tried)
		}
	})
}
