package lab

import (
	"encoding/json"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

func TestParseRate(t *testing.T) {
	for text, want := range map[string]uint64{
		"": 0, "200mbit": 200e6, "1.5gbit": 1.5e9, "64kbit": 64e3, "100000bit": 100e3, "100GBIT": 100e9,
	} {
		if got, err := ParseRate(text); err != nil || got != want {
			t.Errorf("%q: %d, %v, want %d", text, got, err, want)
		}
	}
	for _, text := range []string{"200", "mbit", "200 mbit", "-1mbit", "0bit", "1kbit", "101gbit", "nanmbit", "infgbit", "200mbps"} {
		if got, err := ParseRate(text); err == nil {
			t.Errorf("%q: %d, want an error", text, got)
		}
	}
}

func FuzzParseRate(f *testing.F) {
	for _, s := range []string{"", "200mbit", "1e9bit", "0x1p40bit"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		if rate, err := ParseRate(s); err == nil && s != "" && (rate < minRate || rate > maxRate) {
			t.Errorf("%q is %d bit/s", s, rate)
		}
	})
}

func TestTheZeroOptionsAreTheSmallestCompleteLab(t *testing.T) {
	got, err := Options{}.complete()
	if err != nil {
		t.Fatal(err)
	}
	self, _ := os.Executable()
	want := Options{Name: "lab", Switch: "sim", Steering: "auto", Clients: 1, Dispatchers: 1, Servers: 3, App: "builtin", Attach: "listener", Binary: self, ReadyTimeout: time.Minute}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

func TestEveryMistakeInOptionsIsReported(t *testing.T) {
	_, err := Options{Name: "A b", Switch: "p4", Steering: "magic", Clients: -1, Servers: 81, Attach: "glue", NICRate: 1}.complete()
	if err == nil {
		t.Fatal("accepted")
	}
	for _, word := range []string{`"A b"`, `"p4"`, `"magic"`, "-1 clients", "81 servers", `"glue"`, "1 bit/s"} {
		if !strings.Contains(err.Error(), word) {
			t.Errorf("no %s in %q", word, err)
		}
	}
}

func TestNamespacesOfOtherLabsAreNotTaken(t *testing.T) {
	mine := netnsOf("a")
	for name, want := range map[string]bool{
		"shunt-a-client1": true, "shunt-a-server80": true, "shunt-a-switch": true, "shunt-a-controller": true,
		"shunt-a-b-client1": false, "shunt-a-client": false, "shunt-a-client0": false, "shunt-a-": false, "shunt-ab-client1": false, "client1": false,
	} {
		if mine(name) != want {
			t.Errorf("%s: %v, want %v", name, !want, want)
		}
	}
}

// Scripts rely on these names.
func TestInfoIsWhatScriptsExpect(t *testing.T) {
	o, err := Options{Name: "x", IPv6: true, Servers: 1, Switch: SwitchOVS}.complete()
	if err != nil {
		t.Fatal(err)
	}
	l := &Lab{paths: pathsOf("x"), st: &state{Options: o, Hosts: hosts(o), Service: service(o)}}
	text, err := json.MarshalIndent(l.Info(), "", "  ")
	if err != nil {
		t.Fatal(err)
	}
	want, err := os.ReadFile("testdata/info.json")
	if err != nil {
		t.Fatal(err)
	}
	if d := cmp.Diff(string(want), string(text)+"\n"); d != "" {
		t.Errorf("%s\n%s", d, text)
	}
}

func TestARealServerIsPreloadedUnlessItIsRelayed(t *testing.T) {
	lib := filepath.Join(t.TempDir(), "libshunt.so")
	if err := os.WriteFile(lib, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	for _, name := range RealServers() {
		o, err := Options{App: name, Preload: lib}.complete()
		if err != nil || o.Attach != AttachPreload || o.Preload != lib {
			t.Errorf("%s: %+v, %v", name, o, err)
		}
	}
	if o, err := (Options{App: "nginx", Attach: AttachRelay}).complete(); err != nil || o.Preload != "" {
		t.Errorf("relayed: %+v, %v", o, err)
	}
	for _, o := range []Options{{App: "thttpd"}, {App: "nginx", Attach: AttachListener, Preload: lib}, {Attach: AttachPreload, Preload: lib}, {App: "nginx", Preload: lib + ".absent"}} {
		if got, err := o.complete(); err == nil {
			t.Errorf("%+v is accepted: %+v", o, got)
		}
	}
}
