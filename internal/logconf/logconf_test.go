package logconf

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/netip"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

func TestEachSubsystemHasItsLevel(t *testing.T) {
	var out bytes.Buffer
	h := New(&out, Config{Level: slog.LevelWarn, Levels: map[string]slog.Level{"dispatcher": slog.LevelDebug, "guard": slog.LevelError}})
	log := slog.New(h)
	lines := func() []string {
		defer out.Reset()
		var got []string
		for _, l := range strings.Split(strings.TrimSpace(out.String()), "\n") {
			if _, message, ok := strings.Cut(l, "msg="); ok {
				got = append(got, message)
			}
		}
		return got
	}
	speak := func() {
		log.Info("daemon-info")
		log.Warn("daemon-warn")
		Of(log, "dispatcher").Debug("dispatcher-debug")
		Of(log, "guard").Warn("guard-warn")
		Of(log, "guard").With("node", "n").WithGroup("g").Error("guard-error")
		Of(log, "other").Warn("other-warn")
		Of(Of(log, "guard"), "dispatcher").Debug("the last one counts")
	}
	speak()
	want := []string{"daemon-warn", "dispatcher-debug subsystem=dispatcher", "guard-error subsystem=guard node=n",
		"other-warn subsystem=other", `"the last one counts" subsystem=guard subsystem=dispatcher`}
	if diff := cmp.Diff(want, lines()); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
	h.Set(Config{Level: slog.LevelError})
	speak()
	if diff := cmp.Diff([]string{"guard-error subsystem=guard node=n"}, lines()); diff != "" {
		t.Errorf("after a change: want -, got +:\n%s", diff)
	}
}

func TestValuesCanBeReadInJSON(t *testing.T) {
	var out bytes.Buffer
	log := slog.New(New(&out, Config{Format: JSON}))
	log.Info("m", "mac", net.HardwareAddr{2, 0, 0, 0, 0, 1}, "listen", &net.TCPAddr{IP: net.IPv4(10, 0, 0, 1), Port: 80},
		"client", netip.MustParseAddrPort("[fd00::1]:80"), "err", errors.New("why"), "none", (*net.TCPAddr)(nil))
	got := make(map[string]any)
	if err := json.Unmarshal(out.Bytes(), &got); err != nil {
		t.Fatal(err)
	}
	delete(got, "time")
	want := map[string]any{"level": "INFO", "msg": "m", "mac": "02:00:00:00:00:01", "listen": "10.0.0.1:80", "client": "[fd00::1]:80", "err": "why", "none": nil}
	if diff := cmp.Diff(want, got); diff != "" {
		t.Errorf("want -, got +:\n%s", diff)
	}
}

func TestTheKeyIsReadStrictly(t *testing.T) {
	read := func(text string) (c Config, err error) {
		r := conf.NewReader("a.yaml")
		if root := r.Root([]byte(text)); root != nil {
			r.Mapping(root, "the configuration", conf.Optional("log", Read(r, &c, []string{"dispatcher", "guard"})))
		}
		return c, r.Err()
	}
	got, err := read("log: {level: warn, format: json, levels: {dispatcher: debug, guard: error}}")
	want := Config{Level: slog.LevelWarn, Format: JSON, Levels: map[string]slog.Level{"dispatcher": slog.LevelDebug, "guard": slog.LevelError}}
	if diff := cmp.Diff(want, got); diff != "" || err != nil {
		t.Errorf("%v; want -, got +:\n%s", err, diff)
	}
	for text, want := range map[string]string{
		"log: {level: loud}":              `a.yaml:1:14: log.level "loud" is no level; write debug, info, warn, error`,
		"log: {level: INFO}":              `a.yaml:1:14: log.level "INFO" is no level; write debug, info, warn, error`,
		"log: {format: xml}":              `a.yaml:1:15: log.format "xml" is unknown; write text or json`,
		"log: {levels: {gard: info}}":     `a.yaml:1:16: log.levels has an unknown field "gard"; did you mean "guard"?`,
		"log: {levels: {guard: verbose}}": `a.yaml:1:23: log.levels.guard "verbose" is no level; write debug, info, warn, error`,
		"log: debug":                      `a.yaml:1:6: log is not a mapping; write a mapping`,
	} {
		if _, err := read(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
