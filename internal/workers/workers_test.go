package workers

import (
	"sync"
	"sync/atomic"
	"testing"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

func TestEveryTaskRunsOnce(t *testing.T) {
	var p Pool
	var ran atomic.Int64
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for range 1000 {
				p.Go(func() { ran.Add(1) })
			}
		})
	}
	wg.Wait()
	p.Close()
	if ran.Load() != 8000 {
		t.Errorf("%d tasks ran, want 8000", ran.Load())
	}
}

func TestATaskDoesNotWaitForAnother(t *testing.T) {
	var p Pool
	defer p.Close()
	block := make(chan struct{})
	for range 3 * maxIdle {
		p.Go(func() { <-block })
	}
	done := make(chan struct{})
	p.Go(func() { close(done) })
	<-done
	close(block)
}

func TestATaskAfterCloseRuns(t *testing.T) {
	var p Pool
	p.Go(func() {})
	p.Close()
	done := make(chan struct{})
	p.Go(func() { close(done) })
	<-done
	p.Close()
}
