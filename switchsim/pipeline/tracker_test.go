package pipeline

import (
	"fmt"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/switchsim/packet"
	"github.com/shunt-sdn/shunt/switchsim/wire"
)

// trackerStep is a packet of the connection 1000 → 80 and what the tracker makes of it.
type trackerStep struct {
	reply  bool
	flags  uint16
	commit bool
	wait   time.Duration // before
	state  uint32
	mark   uint32
}

const (
	fin, syn, rst, ack = 1, 2, 4, 16
	trk                = wire.CTTracked
	isNew              = wire.CTTracked | wire.CTNew
	est                = wire.CTTracked | wire.CTEstablished
	rpl                = wire.CTReply
	inv                = wire.CTTracked | wire.CTInvalid
)

func TestTracker(t *testing.T) {
	for name, steps := range map[string][]trackerStep{
		"a connection that was there before": {
			{flags: ack, state: isNew}, {flags: ack, commit: true, state: isNew, mark: 7}, {flags: ack, state: est, mark: 7}, {reply: true, flags: ack, state: est | rpl, mark: 7},
		},
		"a handshake": {
			{flags: syn, commit: true, state: isNew, mark: 7}, {flags: syn, state: isNew, mark: 7},
			{reply: true, flags: syn | ack, state: est | rpl, mark: 7}, {flags: ack, state: est, mark: 7},
		},
		"nothing without commit":      {{flags: ack, state: isNew}, {flags: ack, state: isNew}, {reply: true, flags: ack, state: isNew}},
		"a SYN+ACK begins nothing":    {{flags: syn | ack, commit: true, state: inv}, {flags: ack, state: isNew}},
		"a bare FIN begins nothing":   {{flags: fin, commit: true, state: inv}},
		"nonsense":                    {{flags: syn | fin, state: inv}, {flags: 0, state: inv}, {flags: syn | rst, commit: true, state: inv}},
		"established lasts for hours": {{flags: ack, commit: true, state: isNew, mark: 7}, {wait: 23 * time.Hour, flags: ack, state: est, mark: 7}},
		"a SYN alone is forgotten":    {{flags: syn, commit: true, state: isNew, mark: 7}, {wait: 31 * time.Second, flags: ack, state: isNew}},
		"both FINs, then time, end it": {
			{flags: ack, commit: true, state: isNew, mark: 7}, {flags: fin | ack, state: est, mark: 7}, {reply: true, flags: fin | ack, state: est | rpl, mark: 7},
			{flags: ack, state: est, mark: 7}, {wait: 31 * time.Second, flags: ack, state: isNew},
		},
		"one FIN does not":               {{flags: ack, commit: true, state: isNew, mark: 7}, {flags: fin | ack, state: est, mark: 7}, {wait: 14 * time.Minute, reply: true, flags: ack, state: est | rpl, mark: 7}},
		"a reset, then time, end it":     {{flags: ack, commit: true, state: isNew, mark: 7}, {reply: true, flags: rst | ack, state: est | rpl, mark: 7}, {wait: 31 * time.Second, flags: ack, state: isNew}},
		"a new SYN after the end is new": {{flags: ack, commit: true, state: isNew, mark: 7}, {flags: rst | ack, state: est, mark: 7}, {flags: syn, state: isNew}, {flags: ack, state: isNew}},
		"a second commit changes a mark": {{flags: ack, commit: true, state: isNew, mark: 7}, {flags: ack, state: est, mark: 7}, {flags: ack, commit: true, state: est, mark: 8}, {reply: true, flags: ack, state: est | rpl, mark: 8}},
	} {
		t.Run(name, func(t *testing.T) {
			tr, now, mark := NewTracker(10), time.Unix(1_800_000_000, 0), uint32(7)
			for i, s := range steps {
				now = now.Add(s.wait)
				ct := &wire.CT{Zone: 1, Commit: s.commit}
				if s.commit {
					ct.Exec = []wire.Action{wire.SetField{Field: packet.CTMark, Value: []byte{0, 0, 0, byte(mark)}}}
					mark++
				}
				k := trackerKey(s.reply, s.flags)
				tr.Track(&k, ct, now)
				if k.U32(packet.CTState) != s.state || k.U32(packet.CTMark) != s.mark {
					t.Errorf("step %d: state %#x mark %d, want %#x, %d", i, k.U32(packet.CTState), k.U32(packet.CTMark), s.state, s.mark)
				}
			}
			tr.Expire(now.Add(48 * time.Hour))
			if tr.Len() != 0 {
				t.Errorf("%d connections are left after two days", tr.Len())
			}
		})
	}
}

func trackerKey(reply bool, flags uint16) packet.Key {
	src, dst, sp, dp := client, vip, uint16(1000), uint16(80)
	if reply {
		src, dst, sp, dp = dst, src, dp, sp
	}
	return packet.Parse(tcpFrame(src, dst, sp, dp, flags), packet.Offload{}).Key
}

func TestAFullTrackerCommitsNoMore(t *testing.T) {
	tr, now := NewTracker(3), time.Unix(1_800_000_000, 0)
	for i := range 5 {
		k := packet.Parse(tcpFrame(client, vip, uint16(i+1), 80, ack), packet.Offload{}).Key
		tr.Track(&k, &wire.CT{Zone: 1, Commit: true}, now)
	}
	if tr.Len() != 3 {
		t.Errorf("%d connections, want 3", tr.Len())
	}
	tr.Flush(2)
	if tr.Len() != 3 {
		t.Error("the flush of another zone")
	}
	tr.Flush(1)
	if tr.Len() != 0 {
		t.Errorf("%d connections after the flush", tr.Len())
	}
}

func TestForceTurnsTheDirection(t *testing.T) {
	tr, now := NewTracker(3), time.Unix(1_800_000_000, 0)
	track := func(reply bool, ct wire.CT) string {
		k := trackerKey(reply, ack)
		tr.Track(&k, &ct, now)
		return fmt.Sprintf("%#x", k.U32(packet.CTState))
	}
	track(false, wire.CT{Zone: 1, Commit: true})
	if got := track(true, wire.CT{Zone: 1}); got != fmt.Sprintf("%#x", est|rpl) {
		t.Errorf("state %s before", got)
	}
	track(true, wire.CT{Zone: 1, Commit: true, Force: true})
	if got := track(true, wire.CT{Zone: 1}); got != fmt.Sprintf("%#x", est) {
		t.Errorf("state %s after", got)
	}
}
