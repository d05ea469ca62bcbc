package preload

import (
	"context"
	"testing"
	"time"
)

// BenchmarkFirstAnswer is the time from Attach, or from connect, to the
// server's first answer, the request having been sent before; attach-ns is
// Attach's part.
func BenchmarkFirstAnswer(b *testing.B) {
	for _, spec := range []string{"epoll 127.0.0.1 nonblock", "prefork 127.0.0.1"} {
		b.Run("session "+spec, func(b *testing.B) {
			s := newServer(b, spec)
			var total, attach time.Duration
			for b.Loop() {
				c, fd, m := session(b, "127.0.0.1")
				begun := time.Now()
				if err := s.agent.Attach(context.Background(), fd, m); err != nil {
					b.Fatal(err)
				}
				attach += time.Since(begun)
				ask(b, c)
				total += time.Since(begun)
				c.Close()
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "answer-ns")
			b.ReportMetric(float64(attach.Nanoseconds())/float64(b.N), "attach-ns")
		})
		b.Run("direct "+spec, func(b *testing.B) {
			s := newServer(b, spec)
			var total time.Duration
			for b.Loop() {
				begun := time.Now()
				c := s.direct()
				ask(b, c)
				total += time.Since(begun)
				c.Close()
			}
			b.ReportMetric(float64(total.Nanoseconds())/float64(b.N), "answer-ns")
		})
	}
}
