package openflow_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	of "github.com/shunt-sdn/shunt/controller/openflow"
)

func TestHandshakeLearnsTheSwitch(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		if ch.c.DatapathID() != 42 || ch.c.Description().Hardware != "a test" || ch.c.Description().IsOpenVSwitch() {
			t.Errorf("%x %+v", ch.c.DatapathID(), ch.c.Description())
		}
		want := []of.Port{{No: 1, Name: "p1"}, {No: 2, Name: "p2", LinkUp: true}}
		if diff := cmp.Diff(want, ch.c.Ports()); diff != "" {
			t.Error(diff)
		}
	})
}

func TestASilentPeerIsFoundDead(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		start := time.Now()
		ch.expect(of.TypeEchoRequest)
		if d := time.Since(start); d != 5*time.Second {
			t.Errorf("asked after %v", d)
		}
		if err := <-ch.ended; !errors.Is(err, of.ErrSilent) {
			t.Errorf("Run returned %v", err)
		}
		if d := time.Since(start); d != 10*time.Second {
			t.Errorf("given up after %v", d)
		}
	})
}

func TestAPeerThatAnswersEchoesLives(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		start := time.Now()
		for time.Since(start) < time.Hour {
			ch.send(of.EncodeEchoReply(ch.expect(of.TypeEchoRequest)))
		}
	})
}

func TestAPeerThatOwesABarrierIsGivenUp(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		applied := make(chan error, 1)
		go func() { applied <- ch.c.Barrier(context.Background()) }()
		ch.expect(of.TypeBarrierRequest)
		go func() {
			for {
				m, err := ch.r.Next()
				if err != nil {
					return
				}
				if m.Type() == of.TypeEchoRequest {
					_, _ = ch.nc.Write(of.EncodeEchoReply(m))
				}
			}
		}()
		if err := <-ch.ended; err == nil || !strings.Contains(err.Error(), "did not answer a barrier") {
			t.Errorf("Run returned %v", err)
		}
		if err := <-applied; !errors.Is(err, of.ErrClosed) {
			t.Errorf("Barrier returned %v", err)
		}
	})
}

func TestEchoRequestsAreAnswered(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		ch.send(of.EncodeEchoRequest(99, []byte("hello?")))
		m := ch.expect(of.TypeEchoReply)
		if m.Xid() != 99 || string(m.Body()) != "hello?" {
			t.Errorf("%x", m)
		}
	})
}

func TestErrorsGoToTheirRequests(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		a, b := sessionFlow(1, 1), sessionFlow(2, 1)
		results := make(chan error, 2)
		ch.c.ApplyAsync([]of.FlowMod{a, b}, nil, func(err error) { results <- err })
		m1, m2 := ch.expect(of.TypeFlowMod), ch.expect(of.TypeFlowMod)
		barrier := ch.expect(of.TypeBarrierRequest)
		ch.c.ApplyAsync([]of.FlowMod{a}, nil, func(err error) { results <- err })
		ch.expect(of.TypeFlowMod)
		barrier2 := ch.expect(of.TypeBarrierRequest)
		if m2.Xid() != m1.Xid()+1 {
			t.Errorf("xids %d, %d", m1.Xid(), m2.Xid())
		}
		ch.send(of.EncodeError(m2.Xid(), of.FlowModTableFull, m2))
		for range 10 { // the same again: one request has one error
			ch.send(of.EncodeError(m2.Xid(), of.FlowModTableFull, m2))
		}
		ch.send(of.EncodeBarrierReply(barrier.Xid()), of.EncodeBarrierReply(barrier2.Xid()))
		err := <-results
		if !errors.Is(err, of.FlowModTableFull) || !strings.Contains(err.Error(), b.String()) || strings.Contains(err.Error(), a.String()) {
			t.Errorf("first: %v", err)
		}
		if err := <-results; err != nil {
			t.Errorf("second: %v", err)
		}
		// One that belongs to nothing is an event.
		ch.send(of.EncodeError(0xdead0000, of.BadRequestBadLen, nil))
		if e, ok := (<-ch.c.Events()).(*of.SwitchError); !ok || e.Name != "OFPBRC_BAD_LEN" || e.Request != "" {
			t.Errorf("event %+v", e)
		}
	})
}

func TestCallersShareBarriers(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		const callers, calls = 50, 40
		var mods, barriers atomic.Int64
		go func() { // a switch that takes a millisecond for each batch
			for {
				m, err := ch.r.Next()
				if err != nil {
					return
				}
				switch m.Type() {
				case of.TypeFlowMod:
					mods.Add(1)
				case of.TypeBarrierRequest:
					barriers.Add(1)
					time.Sleep(time.Millisecond) // fake: the switch's work
					if _, err := ch.nc.Write(of.EncodeBarrierReply(m.Xid())); err != nil {
						return
					}
				}
			}
		}()
		var wg sync.WaitGroup
		for range callers {
			go func() {
				for i := range calls {
					ch.c.ApplyAsync([]of.FlowMod{sessionFlow(i, 1)}, nil, func(err error) {
						if err != nil {
							t.Error(err)
						}
						wg.Done()
					})
				}
			}()
			wg.Add(calls)
		}
		wg.Wait()
		if mods.Load() != callers*calls || barriers.Load() > callers*calls/20 {
			t.Errorf("%d flow_mods, %d barriers", mods.Load(), barriers.Load())
		}
	})
}

func TestTooMuchUnconfirmedHoldsCallersBack(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		var held of.Message
		go func() { // reads all, confirms nothing
			for {
				m, err := ch.r.Next()
				if err != nil {
					return
				}
				if m.Type() == of.TypeBarrierRequest && held == nil {
					held = m
				}
				if m.Type() == of.TypeEchoRequest {
					_, _ = ch.nc.Write(of.EncodeEchoReply(m))
				}
			}
		}()
		var accepted, done atomic.Int64
		mod := []of.FlowMod{sessionFlow(1, 1)}
		go func() {
			for range 20000 {
				ch.c.ApplyAsync(mod, nil, func(error) { done.Add(1) })
				accepted.Add(1)
			}
		}()
		synctest.Wait()
		if n := accepted.Load(); n != 16384 {
			t.Errorf("%d calls accepted", n)
		}
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if err := ch.c.Apply(ctx, mod...); !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("Apply returned %v", err)
		}
		before := accepted.Load()
		ch.send(of.EncodeBarrierReply(held.Xid()))
		synctest.Wait()
		if done.Load() == 0 || accepted.Load() == before {
			t.Errorf("%d done, %d more accepted", done.Load(), accepted.Load()-before)
		}
		ch.stop()
		<-ch.ended
		synctest.Wait()
		if accepted.Load() != 20000 || done.Load() != 20000 {
			t.Errorf("after the end %d accepted, %d done", accepted.Load(), done.Load())
		}
	})
}

func TestASlowConsumerOfEventsStallsNothing(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		for i := range 3000 {
			m, err := of.EncodePacketIn(0, of.PacketIn{InPort: uint32(i + 1), Data: ack})
			if err != nil {
				t.Fatal(err)
			}
			ch.send(m)
		}
		ch.send(of.EncodePortStatus(0, of.PortStatus{Reason: of.PortDeleted, Port: of.Port{No: 2}}))
		// Nobody has read an event; requests are answered all the same.
		go ch.confirm(nil)
		if err := ch.c.Barrier(t.Context()); err != nil {
			t.Fatal(err)
		}
		if len(ch.c.Ports()) != 1 {
			t.Errorf("ports %v", ch.c.Ports())
		}
		last, packets := uint32(0), 0
		for e := range ch.c.Events() {
			if s, ok := e.(of.PortStatus); ok {
				if s.Port.No != 2 {
					t.Errorf("%+v", s)
				}
				break
			}
			p := e.(of.PacketIn)
			if p.InPort <= last {
				t.Errorf("packet %d after %d", p.InPort, last)
			}
			last = p.InPort
			packets++
		}
		if dropped := ch.c.DroppedPacketIns(); int(dropped)+packets != 3000 || packets < 1000 {
			t.Errorf("%d packets, %d dropped", packets, dropped)
		}
	})
}

func TestPortChangesNobodyReadsEndTheChannelAtLast(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		for i := range 1500 { // the same port: only its last state counts
			ch.send(of.EncodePortStatus(0, of.PortStatus{Reason: of.PortModified, Port: of.Port{No: 2, LinkUp: i%2 == 0}}))
		}
		go func() {
			for i := range 3000 {
				m := of.EncodePortStatus(0, of.PortStatus{Reason: of.PortAdded, Port: of.Port{No: uint32(i + 10)}})
				if _, err := ch.nc.Write(m); err != nil {
					return
				}
			}
		}()
		if err := <-ch.ended; err == nil || !strings.Contains(err.Error(), "events are not consumed") {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestMalformedMessagesDoNotDisturb(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		bad := must(of.EncodePacketIn(0, of.PacketIn{InPort: 1}))
		bad[of.HeaderLen+16] = 0xff // match type
		ch.send(bad)
		ch.send(of.EncodePortStatus(0, of.PortStatus{})[:8]) // cut, but framed below
	})
	play(t, func(t *testing.T, ch *channel) {
		for _, typ := range []of.Type{of.TypePacketIn, of.TypePortStatus, of.TypeFlowRemoved, of.TypeError, of.TypeMultipartReply, of.TypeRoleReply} {
			ch.send(of.Message{of.Version, byte(typ), 0, 8, 0, 0, 0, 0})
		}
		ch.send(of.Message{of.Version, 200, 0, 8, 0, 0, 0, 9})
		m := ch.expect(of.TypeError)
		if e, err := of.ParseErrorMessage(m); err != nil || !errors.Is(e, of.BadRequestBadType) || m.Xid() != 9 {
			t.Errorf("%v %v", e, err)
		}
		go ch.confirm(nil)
		if err := ch.c.Barrier(t.Context()); err != nil {
			t.Error(err)
		}
	})
}

func TestBrokenStreamsEndWithAReason(t *testing.T) {
	for name, tt := range map[string]struct {
		octets []byte
		code   of.Code // of the OFPT_ERROR sent back; 0: none
		want   string
	}{
		"length below a header's": {[]byte{4, 10, 0, 7, 0, 0, 0, 5}, of.BadRequestBadLen, "length 7"},
		"length zero, not 1.3":    {[]byte("GET / HTTP/1.1\r\n"), 0, "1.3"},
		"another version":         {[]byte{5, 10, 0, 8, 0, 0, 0, 5}, of.BadRequestBadVersion, "version 5"},
		"error of another":        {[]byte{6, 1, 0, 12, 0, 0, 0, 5, 0, 1, 0, 0}, 0, "version 6"},
	} {
		t.Run(name, func(t *testing.T) {
			play(t, func(t *testing.T, ch *channel) {
				go func() {
					_, _ = ch.nc.Write(tt.octets)
					if tt.code == 0 {
						ch.nc.Close()
					}
				}()
				if tt.code != 0 {
					e, err := of.ParseErrorMessage(ch.expect(of.TypeError))
					if err != nil || !errors.Is(e, tt.code) || e.Xid != 5 {
						t.Errorf("answered %+v, %v", e, err)
					}
				}
				if err := <-ch.ended; err == nil || name != "length zero, not 1.3" && !strings.Contains(err.Error(), tt.want) {
					t.Errorf("Run returned %v", err)
				}
			})
		})
	}
}

func TestAPeerThatAsksButDoesNotReadIsCutOff(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		for {
			if _, err := ch.nc.Write(of.EncodeEchoRequest(1, make([]byte, 1000))); err != nil {
				break
			}
		}
		if err := <-ch.ended; err == nil || !strings.Contains(err.Error(), "does not read") {
			t.Errorf("Run returned %v", err)
		}
	})
}

func TestTheEndFailsWhatIsUnanswered(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		results := make(chan error, 3)
		ch.c.ApplyAsync([]of.FlowMod{sessionFlow(1, 1)}, nil, func(err error) { results <- err })
		go func() {
			_, err := ch.c.FlowStats(context.Background(), 0, 0)
			results <- err
		}()
		for range 4 { // both requests and their barriers
			ch.recv()
		}
		ch.nc.Close()
		for range 2 {
			if err := <-results; !errors.Is(err, of.ErrClosed) || !errors.Is(err, io.EOF) {
				t.Errorf("%v", err)
			}
		}
		if err := <-ch.ended; !errors.Is(err, io.EOF) {
			t.Errorf("Run returned %v", err)
		}
		if _, open := <-ch.c.Events(); open {
			t.Error("events go on")
		}
		ch.c.ApplyAsync(nil, nil, func(err error) { results <- err })
		if err := <-results; !errors.Is(err, of.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
		if err := ch.c.PacketOut(of.PacketOut{InPort: 1}); !errors.Is(err, of.ErrClosed) {
			t.Errorf("after the end: %v", err)
		}
	})
}

func TestMultipartRepliesAreJoined(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		const n = 3000
		var entries [][]byte
		for i := range n {
			entries = append(entries, must(of.EncodeFlowEntry(of.FlowEntry{Flow: sessionFlow(i, 1).Flow, Packets: uint64(i)})))
		}
		go ch.confirm(func(m of.Message) {
			r, err := of.ParseMultipartRequest(m)
			if err != nil || r.Kind != of.MultipartFlow || r.Flows.Cookie != 5 || r.Flows.CookieMask != 7 || r.Flows.Table != of.NoTable {
				t.Errorf("request %+v, %v", r, err)
			}
			parts := of.EncodeMultipartReply(m.Xid(), of.MultipartFlow, entries...)
			if len(parts) < 3 {
				t.Errorf("%d parts", len(parts))
			}
			for _, part := range parts {
				if _, err := ch.nc.Write(part); err != nil {
					return
				}
			}
		})
		stats, err := ch.c.FlowStats(t.Context(), 5, 7)
		if err != nil || len(stats) != n || stats[n-1].Packets != n-1 {
			t.Errorf("%d flows, %v", len(stats), err)
		}
	})
}

func TestRequestsFailWithTheirOwnErrors(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		answer := make(chan func(of.Message) []of.Message, 1)
		go ch.confirm(func(m of.Message) {
			for _, r := range (<-answer)(m) {
				if _, err := ch.nc.Write(r); err != nil {
					return
				}
			}
		})
		for name, tt := range map[string]struct {
			reply func(of.Message) []of.Message
			want  string
		}{
			"an error": {func(m of.Message) []of.Message {
				return []of.Message{of.EncodeError(m.Xid(), of.BadRequestBadStat, m)}
			}, "refused a dump of the flows with cookie 0x1/0x1: OFPBRC_BAD_MULTIPART"},
			"another kind": {func(m of.Message) []of.Message { return of.EncodeMultipartReply(m.Xid(), of.MultipartTable) }, "kind 3"},
			"nonsense": {func(m of.Message) []of.Message {
				return of.EncodeMultipartReply(m.Xid(), of.MultipartFlow, make([]byte, 60))
			}, "flow entry of 0 octets"},
			"nothing": {func(of.Message) []of.Message { return nil }, "deadline"},
		} {
			answer <- tt.reply
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			_, err := ch.c.FlowStats(ctx, 1, 1)
			cancel()
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("%s: %v", name, err)
			}
		}
		for granted, want := range map[of.Role]string{of.RoleMaster: "<nil>", of.RoleSlave: "the switch granted role 3, not 2"} {
			answer <- func(m of.Message) []of.Message {
				_, generation, err := of.ParseRoleRequest(m)
				if err != nil || generation != 8 {
					t.Errorf("generation %d, %v", generation, err)
				}
				return []of.Message{of.EncodeRoleReply(m.Xid(), granted, generation)}
			}
			if err := ch.c.SetRole(t.Context(), true, 8); fmt.Sprint(err) != want {
				t.Errorf("role: %v", err)
			}
		}
	})
}

func TestOneLargeCallIsSentInPartsAndConfirmedOnce(t *testing.T) {
	play(t, func(t *testing.T, ch *channel) {
		const n = 30000 // more than may be unconfirmed, and than a batch holds
		var got, barriers atomic.Int64
		go func() {
			for {
				m, err := ch.r.Next()
				if err != nil {
					return
				}
				switch m.Type() {
				case of.TypeFlowMod:
					if n := got.Add(1); n == 20000 {
						if _, err := ch.nc.Write(of.EncodeError(m.Xid(), of.FlowModTableFull, m)); err != nil {
							return
						}
					}
				case of.TypeBarrierRequest:
					barriers.Add(1)
					if _, err := ch.nc.Write(of.EncodeBarrierReply(m.Xid())); err != nil {
						return
					}
				}
			}
		}()
		mods := make([]of.FlowMod, n)
		for i := range mods {
			mods[i] = sessionFlow(i, 1)
		}
		err := ch.c.Apply(t.Context(), mods...)
		if !errors.Is(err, of.FlowModTableFull) || !strings.Contains(err.Error(), mods[19999].String()) {
			t.Errorf("%v", err)
		}
		if got.Load() != n || barriers.Load() != 1 {
			t.Errorf("%d flow_mods, %d barriers", got.Load(), barriers.Load())
		}
	})
}
