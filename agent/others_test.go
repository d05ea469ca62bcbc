package agent

import (
	"bytes"
	"net/netip"
	"testing"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	accepting = shuntv1.DispatcherState_DISPATCHER_STATE_UNSPECIFIED
	starting  = shuntv1.DispatcherState_DISPATCHER_STATE_STARTING
	leaving   = shuntv1.DispatcherState_DISPATCHER_STATE_LEAVING
	away      = shuntv1.DispatcherState_DISPATCHER_STATE_AWAY
)

// dispatchers makes the configuration of a service that these share.
func dispatchers(states map[string]shuntv1.DispatcherState, down ...string) *shuntv1.NodeConfig {
	s := &shuntv1.Service{Name: "web", Vips: []*shuntv1.Endpoint{shuntv1.EndpointOf(netip.MustParseAddrPort("10.10.0.80:80"))}}
	c := &shuntv1.NodeConfig{Services: []*shuntv1.Service{s}}
	for i, name := range []string{"d1", "d2", "d3"} {
		state, known := states[name]
		if !known {
			continue
		}
		n := &shuntv1.Node{Name: name, Mac: []byte{2, 0, 0, 0, 0, byte(i + 1)}, Up: true, Dispatcher: state}
		for _, d := range down {
			n.Up = n.Up && d != name
		}
		c.Nodes = append(c.Nodes, n)
		for _, local := range []netip.Addr{netip.AddrFrom4([4]byte{172, 31, 0, byte(i + 1)}), netip.AddrFrom16([16]byte{0xfd, 0x31, 15: byte(i + 1)})} {
			s.Leases = append(s.Leases, &shuntv1.Lease{
				Dispatcher: name, Local: shuntv1.EndpointOf(netip.AddrPortFrom(local, 80)), Vip: s.Vips[0],
			})
		}
	}
	return c
}

func TestWhoIsAskedForAConnectionThatNobodyKnows(t *testing.T) {
	for _, tt := range []struct {
		name   string
		self   string
		states map[string]shuntv1.DispatcherState
		down   []string
		want   map[byte]bool // the last octets of those that are asked, for some slot
	}{
		{"alone", "d1", map[string]shuntv1.DispatcherState{"d1": accepting}, nil, nil},
		{"both accept", "d1", map[string]shuntv1.DispatcherState{"d1": accepting, "d2": accepting}, nil, map[byte]bool{2: true}},
		{"the other starts", "d1", map[string]shuntv1.DispatcherState{"d1": accepting, "d2": starting}, nil, map[byte]bool{2: true}},
		{"the other leaves", "d1", map[string]shuntv1.DispatcherState{"d1": accepting, "d2": leaving}, nil, map[byte]bool{2: true}},
		{"the other is gone", "d1", map[string]shuntv1.DispatcherState{"d1": accepting, "d2": accepting}, []string{"d2"}, nil},
		{"the other's agent is gone", "d1", map[string]shuntv1.DispatcherState{"d1": accepting, "d2": away}, []string{"d2"}, map[byte]bool{2: true}},
		{"it starts", "d1", map[string]shuntv1.DispatcherState{"d1": starting, "d2": accepting}, nil, map[byte]bool{2: true}},
		{"it leaves", "d1", map[string]shuntv1.DispatcherState{"d1": leaving, "d2": accepting}, nil, map[byte]bool{2: true}},
		{"three", "d1", map[string]shuntv1.DispatcherState{"d1": accepting, "d2": accepting, "d3": accepting}, nil, map[byte]bool{2: true, 3: true}},
		{"a server", "s1", map[string]shuntv1.DispatcherState{"d1": accepting, "d2": accepting}, nil, nil},
	} {
		t.Run(tt.name, func(t *testing.T) {
			v, err := viewOf(tt.self, dispatchers(tt.states, tt.down...))
			if err != nil {
				t.Fatal(err)
			}
			asked := map[byte]bool{}
			all := others(tt.self, v.shared)
			for share, other := range all {
				if share.Session.Is4() != other.Session.Is4() || share.Slot > 63 {
					t.Errorf("%v: %v", share, other)
				}
				last := other.MAC[5]
				if other.More != uint8(len(tt.want)-1) {
					t.Errorf("%v: %d more are asked", share, other.More)
				}
				asked[last] = true
				if a := other.Session.As16(); a[15] != last || !bytes.Equal(other.MAC[:5], []byte{2, 0, 0, 0, 0}) {
					t.Errorf("%v: %v", share, other)
				}
			}
			if len(asked) != len(tt.want) {
				t.Errorf("asked %v, want %v", asked, tt.want)
			}
			for w := range tt.want {
				if !asked[w] {
					t.Errorf("%d is not asked", w)
				}
			}
			if len(asked) > 0 && len(all) != 2*64 {
				t.Errorf("%d shares, want all", len(all))
			}
		})
	}
}

func TestADispatcherMakesWayOnlyIfOthersTakeAll(t *testing.T) {
	for _, tt := range []struct {
		states map[string]shuntv1.DispatcherState
		down   []string
		now    bool
		soon   bool
	}{
		{map[string]shuntv1.DispatcherState{"d1": accepting}, nil, false, false},
		{map[string]shuntv1.DispatcherState{"d1": accepting, "d2": accepting}, nil, true, true},
		{map[string]shuntv1.DispatcherState{"d1": accepting, "d2": accepting}, []string{"d2"}, false, false},
		{map[string]shuntv1.DispatcherState{"d1": accepting, "d2": away}, []string{"d2"}, false, false},
		{map[string]shuntv1.DispatcherState{"d1": accepting, "d2": starting}, nil, false, true},
		{map[string]shuntv1.DispatcherState{"d1": accepting, "d2": leaving}, nil, false, false},
		{map[string]shuntv1.DispatcherState{"d1": accepting, "d2": leaving, "d3": accepting}, nil, true, true},
	} {
		v, err := viewOf("d1", dispatchers(tt.states, tt.down...))
		if err != nil {
			t.Fatal(err)
		}
		if now, soon := v.replaceable(); now != tt.now || soon != tt.soon {
			t.Errorf("%v, down %v: %v %v, want %v %v", tt.states, tt.down, now, soon, tt.now, tt.soon)
		}
	}
	if now, soon := (view{}).replaceable(); now || soon {
		t.Error("a server makes way")
	}
}
