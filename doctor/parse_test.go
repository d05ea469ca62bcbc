package doctor

import (
	"encoding/json"
	"net/netip"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestValuesOfTheDatabase(t *testing.T) {
	r := row{}
	const text = `{"name":"br0","ports":["set",[["uuid","u1"],["uuid","u2"]]],"one":["uuid","u3"],"none":["set",[]],"ofport":7,
		"up":true,"other_config":["map",[["userspace-tso-enable","true"],["n",1]]],"broken":["set"]}`
	if err := json.Unmarshal([]byte(text), &r); err != nil {
		t.Fatal(err)
	}
	for column, want := range map[string][]string{
		"name": {"br0"}, "ports": {"u1", "u2"}, "one": {"u3"}, "none": nil, "ofport": {"7"}, "up": {"true"}, "broken": nil, "absent": nil,
	} {
		if diff := cmp.Diff(want, r.texts(column)); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", column, diff)
		}
	}
	if got := r.option("other_config", "userspace-tso-enable"); got != "true" {
		t.Errorf("option %q", got)
	}
	if got := r.option("name", "x") + r.option("other_config", "absent") + r.option("absent", "x"); got != "" {
		t.Errorf("an option that is not there is %q", got)
	}
}

func FuzzRows(f *testing.F) {
	f.Add([]byte(`[{"rows":[{"_uuid":["uuid","u1"],"a":["set",[1,["uuid","x"]]],"m":["map",[["k","v"]]]}]}]`))
	f.Add([]byte(`[{"error":"no"}]`))
	f.Add([]byte(`[{"rows":[{"_uuid":["uuid"],"m":["map",[[],["k"],[1,2]]]}]}]`))
	f.Fuzz(func(t *testing.T, result []byte) {
		rows, err := parseRows("T", message{Result: result})
		if err != nil {
			return
		}
		for id, r := range rows {
			if id == "" && !slices.Contains(r.texts("_uuid"), "") {
				t.Error("a row without its UUID")
			}
			for c := range r {
				r.texts(c)
				r.option(c, "k")
			}
		}
	})
}

func FuzzListener(f *testing.F) {
	v4 := make([]byte, diagMessageLen)
	v4[0], v4[1], v4[5], v4[8] = 2, tcpListen, 80, 10
	f.Add(v4)
	v6 := slices.Clone(v4)
	v6[0] = 10
	f.Add(v6)
	f.Add([]byte{2, tcpListen})
	f.Fuzz(func(t *testing.T, b []byte) {
		l, ok := parseListener(b)
		if ok != l.at.IsValid() {
			t.Errorf("listener %v, %v", l, ok)
		}
	})
}

func TestAnIPv4ListenerIsDecoded(t *testing.T) {
	b := make([]byte, diagMessageLen)
	b[0], b[1], b[4], b[5] = 2, tcpListen, 0x1f, 0x90
	copy(b[8:], []byte{10, 0, 0, 1})
	if l, ok := parseListener(b); !ok || l.at != netip.MustParseAddrPort("10.0.0.1:8080") {
		t.Errorf("got %v, %v", l, ok)
	}
}
