package registry

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func hello(name string, n byte) Hello {
	return Hello{
		Name: name, Roles: []shuntv1.Role{shuntv1.Role_ROLE_SERVER}, MAC: []byte{2, 0, 0, 0, 0, n},
		Addresses: []netip.Addr{netip.AddrFrom4([4]byte{10, 10, 2, n})}, Transfer: fmt.Sprintf("10.99.0.%d:6641", n), Instance: uint64(n),
	}
}

func join(t *testing.T, n *Nodes, h Hello) uint64 {
	t.Helper()
	seat, err := n.Join(h)
	if err != nil {
		t.Fatal(err)
	}
	return seat
}

// drained reports whether a change was announced, and takes it.
func drained(n *Nodes) bool {
	select {
	case <-n.Changed():
		return true
	default:
		return false
	}
}

func TestTheNewerInstanceHasTheSeat(t *testing.T) {
	n := NewNodes(nil, nil)
	old := join(t, n, hello("a", 1))
	if !drained(n) || drained(n) {
		t.Error("a join is not announced once")
	}
	next := join(t, n, hello("a", 1))
	if n.Leave("a", old, true) {
		t.Error("the old instance unseated the new one")
	}
	n.Report("a", old, []Application{{Service: "x"}}, &shuntv1.Report{RequestsProxied: 9})
	if x, _ := n.Get("a"); !x.Up || x.Applications != nil || x.Report != nil {
		t.Errorf("the old instance still counts: %+v", x)
	}
	drained(n)
	if !n.Leave("a", next, true) || n.Leave("a", next, true) || !drained(n) {
		t.Error("the new instance did not leave once, with an announcement")
	}
	_, oldAway := n.Away("a", old)
	if x, away := n.Away("a", next); !away || x.Name != "a" || oldAway {
		t.Errorf("away since the new instance's seat: %v, the old one's: %v", away, oldAway)
	}
	if x, ok := n.Get("a"); !ok || x.Up {
		t.Errorf("after leaving: %+v", x)
	}
}

func TestADispatcherWhoseAgentIsGoneIsAwayForAWhileIfItsHostIsThere(t *testing.T) {
	const away = shuntv1.DispatcherState_DISPATCHER_STATE_AWAY
	state := func(n *Nodes) shuntv1.DispatcherState {
		x, _ := n.Get("d")
		return x.Dispatcher
	}
	h := hello("d", 1)
	h.Roles = []shuntv1.Role{shuntv1.Role_ROLE_DISPATCHER}
	n := NewNodes(nil, nil)
	first := join(t, n, h)
	n.Leave("d", first, true)
	if x, _ := n.Get("d"); x.Dispatcher != away || x.Accepts() || x.Proto().Up || x.Proto().Dispatcher != away {
		t.Errorf("after leaving: %+v", x)
	}
	second := join(t, n, h)
	n.Gone("d", first)
	if x, _ := n.Get("d"); !x.Accepts() {
		t.Errorf("when it is back: %+v", x)
	}
	n.Leave("d", second, true)
	drained(n)
	n.Gone("d", first)
	if state(n) != away || drained(n) {
		t.Error("an earlier leave is over, and this one too")
	}
	n.Gone("d", second)
	if state(n) == away || !drained(n) {
		t.Error("it is away for ever, or that it is not is not announced")
	}
	n.Leave("d", join(t, n, h), false)
	if state(n) == away {
		t.Error("it is away with its host")
	}
	h.Roles = nil
	n.Leave("d", join(t, n, h), true)
	if state(n) == away {
		t.Error("a server is away as a dispatcher")
	}
}

func TestWhoMayJoin(t *testing.T) {
	n := NewNodes([]string{"a", "b"}, nil)
	join(t, n, hello("a", 1))
	for _, c := range []struct {
		h    Hello
		want error
		says string
	}{
		{hello("c", 3), ErrNotAllowed, "node c"},
		{hello("b", 1), ErrClash, "02:00:00:00:00:01, which node a has"},
		{Hello{Name: "b", MAC: []byte{2, 0, 0, 0, 0, 2}, Addresses: hello("a", 1).Addresses}, ErrClash, "10.10.2.1, which node a has"},
	} {
		if _, err := n.Join(c.h); !errors.Is(err, c.want) || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: %v, want %v with %q", c.h.Name, err, c.want, c.says)
		}
	}
	many := NewNodes(nil, nil)
	many.limit = 300
	for i := range many.limit {
		h := hello(fmt.Sprint("n", i), 0)
		h.MAC = []byte{2, 1, 0, 0, byte(i >> 8), byte(i)}
		h.Addresses = []netip.Addr{netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)})}
		join(t, many, h)
	}
	if _, err := many.Join(hello("one-more", 1)); !errors.Is(err, ErrTooMany) {
		t.Errorf("one more: %v", err)
	}
}

func TestARenamedNodeReplacesItsOldName(t *testing.T) {
	n := NewNodes(nil, nil)
	seat := join(t, n, hello("old", 1))
	n.Report("old", seat, nil, &shuntv1.Report{RequestsProxied: 5})
	n.Leave("old", seat, true)
	join(t, n, hello("new", 1))
	if list := n.List(); len(list) != 1 || list[0].Name != "new" {
		t.Errorf("nodes %+v", list)
	}
	if got := n.Proxied(); got != 5 {
		t.Errorf("%d proxied, want the old name's 5", got)
	}
}

func TestProxiedRequestsAddUpOverInstances(t *testing.T) {
	n := NewNodes(nil, nil)
	report := func(h Hello, counts ...uint64) {
		seat := join(t, n, h)
		for _, c := range counts {
			n.Report(h.Name, seat, nil, &shuntv1.Report{RequestsProxied: c})
		}
	}
	a, b := hello("a", 1), hello("b", 2)
	report(a, 1, 5, 10)
	report(b, 2)
	report(a, 10, 11) // the same instance, after a lost stream
	a.Instance = 77
	report(a, 0, 3)
	if got := n.Proxied(); got != 11+3+2 {
		t.Errorf("%d proxied, want 16", got)
	}
}

func TestANodeThatWasGivenUpIsNotUsedUntilItIsReadmitted(t *testing.T) {
	n := NewNodes(nil, nil)
	old := join(t, n, hello("a", 1))
	if _, ok := n.GiveUp("a", old); ok {
		t.Error("a node that is there was given up")
	}
	n.Leave("a", old, true)
	drained(n)
	if x, ok := n.GiveUp("a", old); !ok || !x.GivenUp || !x.Fenced || !drained(n) {
		t.Errorf("given up: %v, announced, and then %+v", ok, x)
	}
	x, _ := n.Get("a")
	record, err := x.Record()
	if err != nil {
		t.Fatal(err)
	}
	kept, err := ParseRecord(record)
	if err != nil || !kept.GivenUp || !kept.Fenced || kept.Usable() {
		t.Errorf("after a restart it is %+v, %v", kept, err)
	}
	n = NewNodes(nil, []Node{kept})
	// Even under another name.
	seat := join(t, n, hello("b", 1))
	check := func(when string, usable, fenced bool) {
		t.Helper()
		if x, _ := n.Get("b"); !x.Up || x.Usable() != usable || x.Proto().Up != usable || x.Proto().GivenUp == usable || x.Fenced != fenced {
			t.Errorf("%s: %+v", when, x)
		}
	}
	check("back", false, true)
	drained(n)
	n.Unfence("b", seat+1)
	n.Readmit("b", seat+1)
	if drained(n) {
		t.Error("somebody else's seat counts")
	}
	n.Unfence("b", seat)
	check("its replies are let in", false, false)
	if !drained(n) {
		t.Error("that is not announced")
	}
	n.Readmit("b", seat)
	check("readmitted", true, false)
	if !drained(n) {
		t.Error("that is not announced")
	}
	n.Leave("b", seat, true)
	join(t, n, hello("b", 1))
	check("it was away, but not given up", true, false)
}

func TestOnlyChangesOfApplicationsAreAnnounced(t *testing.T) {
	n := NewNodes(nil, nil)
	seat := join(t, n, hello("a", 1))
	drained(n)
	app := Application{Service: "web", Direct: netip.MustParseAddrPort("10.10.2.1:80")}
	for i, c := range []struct {
		ready, want bool
	}{{false, true}, {false, false}, {true, true}, {true, false}} {
		app.Ready = c.ready
		n.Report("a", seat, []Application{app}, &shuntv1.Report{RequestsProxied: uint64(i)})
		if got := drained(n); got != c.want {
			t.Errorf("report %d: announced %v, want %v", i, got, c.want)
		}
	}
}

func TestNodesOfAnEarlierRunAreAwaited(t *testing.T) {
	before := NewNodes(nil, nil)
	for i, name := range []string{"a", "b", "gone"} {
		join(t, before, hello(name, byte(i+1)))
	}
	before.Leave("gone", 3, true)
	var known []Node
	for _, x := range before.List() {
		record, err := x.Record()
		if err != nil {
			t.Fatal(err)
		}
		k, err := ParseRecord(record)
		if err != nil {
			t.Fatal(err)
		}
		known = append(known, k)
	}
	n := NewNodes(nil, known)
	if got := n.Awaited(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("awaited %v, want a and b, which were up", got)
	}
	if x, _ := n.Get("a"); x.Up || !x.Usable() || !x.Proto().Up || !cmp.Equal(x.Hello.Addresses, hello("a", 1).Addresses, cmp.Comparer(func(a, b netip.Addr) bool { return a == b })) {
		t.Errorf("node a is %+v", x)
	}
	seat := join(t, n, hello("a", 1))
	if got := n.Awaited(); !slices.Equal(got, []string{"a", "b"}) {
		t.Errorf("awaited %v: a has not listed its sessions", got)
	}
	n.Synced("a", seat)
	if got := n.Awaited(); !slices.Equal(got, []string{"b"}) {
		t.Errorf("awaited %v, want b", got)
	}
	n.StopWaiting()
	if x, _ := n.Get("b"); x.Usable() || len(n.Awaited()) != 0 {
		t.Errorf("b is %+v after giving up", x)
	}
	if _, err := ParseRecord([]byte("rubbish")); err == nil {
		t.Error("rubbish is a record")
	}
	if got := NewNodes([]string{"b"}, known).List(); len(got) != 1 || got[0].Name != "b" {
		t.Errorf("nodes that the configuration does not list any more are kept: %+v", got)
	}
}

func TestNamesAreInTheOrderOfPeople(t *testing.T) {
	want := []string{"a", "server1", "server02", "server2", "server10", "server10a", "server10b2", "z"}
	for seed := range len(want) {
		got := append(slices.Clone(want[seed:]), want[:seed]...)
		if slices.SortFunc(got, CompareNames); !slices.Equal(got, want) {
			t.Errorf("got %v, want %v", got, want)
		}
	}
}

func goodHello() *shuntv1.Hello {
	return &shuntv1.Hello{
		Node: "server1", Roles: []shuntv1.Role{shuntv1.Role_ROLE_SERVER}, Mac: []byte{2, 0, 0, 0, 0, 1},
		Addresses: [][]byte{{10, 10, 2, 101}}, TransferEndpoint: "10.99.0.101:6641",
		Applications: []*shuntv1.Application{{Service: "web", Direct: &shuntv1.Endpoint{Address: []byte{10, 10, 2, 101}, Port: 80}}},
	}
}

func TestAHelloIsCheckedForForm(t *testing.T) {
	if _, err := ParseHello(goodHello()); err != nil {
		t.Fatal(err)
	}
	for want, spoil := range map[string]func(*shuntv1.Hello){
		`node name ""`:                     func(h *shuntv1.Hello) { h.Node = "" },
		`node name "../x"`:                 func(h *shuntv1.Hello) { h.Node = "../x" },
		"no role":                          func(h *shuntv1.Hello) { h.Roles = nil },
		"role 9 is unknown":                func(h *shuntv1.Hello) { h.Roles = []shuntv1.Role{9} },
		"MAC address 02:00":                func(h *shuntv1.Hello) { h.Mac = []byte{2, 0} },
		"MAC address 01:00:00:00:00:00":    func(h *shuntv1.Hello) { h.Mac = []byte{1, 0, 0, 0, 0, 0} },
		"MAC address 00:00:00:00:00:00":    func(h *shuntv1.Hello) { h.Mac = make([]byte, 6) },
		"0 addresses":                      func(h *shuntv1.Hello) { h.Addresses = nil },
		"17 addresses":                     func(h *shuntv1.Hello) { h.Addresses = slices.Repeat(h.Addresses, 17) },
		"address of 3 octets":              func(h *shuntv1.Hello) { h.Addresses = [][]byte{{1, 2, 3}} },
		"address 127.0.0.1 is nothing":     func(h *shuntv1.Hello) { h.Addresses = [][]byte{{127, 0, 0, 1}} },
		`transfer endpoint "x"`:            func(h *shuntv1.Hello) { h.TransferEndpoint = "x" },
		`transfer endpoint "x:0"`:          func(h *shuntv1.Hello) { h.TransferEndpoint = "x:0" },
		`transfer endpoint ":6641"`:        func(h *shuntv1.Hello) { h.TransferEndpoint = ":6641" },
		"version of 1000 octets":           func(h *shuntv1.Hello) { h.Version = strings.Repeat("x", 1000) },
		"300 applications":                 func(h *shuntv1.Hello) { h.Applications = slices.Repeat(h.Applications, 300) },
		`application of the service ""`:    func(h *shuntv1.Hello) { h.Applications[0].Service = "" },
		"endpoint has port 0":              func(h *shuntv1.Hello) { h.Applications[0].Direct.Port = 0 },
		"endpoint has an address of 0 oct": func(h *shuntv1.Hello) { h.Applications[0].Direct.Address = nil },
	} {
		h := goodHello()
		spoil(h)
		if _, err := ParseHello(h); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("got %v, want %q", err, want)
		}
	}
}

func FuzzParseHello(f *testing.F) {
	seed, err := proto.Marshal(goodHello())
	if err != nil {
		f.Fatal(err)
	}
	f.Add(seed)
	f.Fuzz(func(t *testing.T, b []byte) {
		var m shuntv1.Hello
		if proto.Unmarshal(b, &m) != nil {
			return
		}
		h, err := ParseHello(&m)
		if err != nil {
			return
		}
		record, err := Node{Hello: h}.Record()
		if err != nil {
			t.Fatal(err)
		}
		again, err := ParseRecord(record)
		if err != nil {
			t.Fatalf("a node's own record is refused: %v", err)
		}
		if twice, err := again.Record(); err != nil || !bytes.Equal(record, twice) {
			t.Errorf("record %x became %x, %v", record, twice, err)
		}
	})
}
