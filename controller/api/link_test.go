package api

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestABurstOfConfigurationsBecomesTheFirstAndTheLast(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLink()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var got []uint64
		var when []time.Duration
		begun := time.Now()
		go l.deliver(ctx, func(m *shuntv1.AttachResponse) error {
			got = append(got, m.GetConfig().GetVersion())
			when = append(when, time.Since(begun))
			return nil
		})
		l.Configure(&shuntv1.NodeConfig{Version: 10})
		synctest.Wait()
		for v := uint64(11); v <= 50; v++ {
			l.Configure(&shuntv1.NodeConfig{Version: v})
			synctest.Wait()
		}
		l.Configure(&shuntv1.NodeConfig{Version: 7}) // an older one, late
		<-time.After(time.Second)
		l.Configure(&shuntv1.NodeConfig{Version: 51})
		synctest.Wait()
		if len(got) != 3 || got[0] != 10 || got[1] != 50 || got[2] != 51 {
			t.Errorf("versions %v, want 10, 50, 51", got)
		}
		if when[0] != 0 || when[1] != configGap || when[2] != time.Second {
			t.Errorf("at %v", when)
		}
	})
}

func TestOtherMessagesDoNotWaitForAConfiguration(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := NewLink()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		sent := 0
		go l.deliver(ctx, func(*shuntv1.AttachResponse) error { sent++; return nil })
		l.Configure(&shuntv1.NodeConfig{Version: 1})
		synctest.Wait()
		l.Configure(&shuntv1.NodeConfig{Version: 2})
		l.Send(&shuntv1.AttachResponse{})
		synctest.Wait()
		if sent != 2 {
			t.Errorf("%d messages at once, want the first configuration and the message", sent)
		}
	})
}
