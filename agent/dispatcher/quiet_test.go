package dispatcher

import (
	"testing"
	"testing/synctest"
	"time"
)

func TestAwaitQuiet(t *testing.T) {
	const quiet, done, limit = 250 * time.Millisecond, 3 * time.Second, 10 * time.Second
	here := &session{}
	copied := &session{}
	to := "server1"
	copied.proxiedTo.Store(&to)
	for _, tt := range []struct {
		name     string
		sessions []*session
		come     time.Duration // for how long connections come, every 100 ms
		leave    time.Duration // when the sessions are elsewhere
		want     bool
		after    time.Duration
	}{
		{"nobody comes", nil, 0, 0, true, quiet},
		{"what is copied is not waited for", []*session{copied}, 0, time.Hour, true, quiet},
		{"what may be handed off is", []*session{here, copied}, 0, time.Second, true, time.Second},
		{"but not for ever", []*session{here}, 0, time.Hour, true, done},
		{"connections come", nil, 2 * time.Second, 0, true, 2*time.Second + quiet},
		{"and go on coming", nil, time.Hour, 0, false, limit},
		{"what is here has its time from the last one on", []*session{here}, 2 * time.Second, time.Hour, true, 2*time.Second + done},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				d := New(Options{})
				defer d.cancel()
				for _, s := range tt.sessions {
					d.sessions[s] = make(chan struct{})
				}
				begun, over := time.Now(), make(chan struct{})
				go func() {
					for time.Since(begun) < tt.come {
						select {
						case <-over:
							return
						case <-time.After(100 * time.Millisecond):
							d.accepted.Add(1)
						}
					}
				}()
				time.AfterFunc(tt.leave, func() {
					d.mu.Lock()
					defer d.mu.Unlock()
					delete(d.sessions, here)
				})
				got := d.AwaitQuiet(quiet, done, limit)
				close(over)
				if took := time.Since(begun); got != tt.want || took < tt.after-20*time.Millisecond || took > tt.after+20*time.Millisecond {
					t.Errorf("%v after %v, want %v after %v", got, took, tt.want, tt.after)
				}
			})
		})
	}
}
