package controller

import (
	"fmt"
	"strings"
	"testing"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestExplanationsTellWhatModeAutoHasLearnt(t *testing.T) {
	d := start(t, testConfig(t))
	d1 := d.join(t, "dispatcher1")
	d.join(t, "server1")
	r := d.apply(t, "services: [{name: web, routes: [{name: either, match: {paths: [{prefix: /a}]}, pool: app, mode: auto}, {name: moved, pool: app}]}]\npools: [{name: app}]")
	d1.has(t, r.Revision)
	explain := func(url string) *shuntv1.ExplainResponse {
		t.Helper()
		x, err := d.policies().Explain(t.Context(), &shuntv1.ExplainRequest{Url: url})
		if err != nil {
			t.Fatal(err)
		}
		return x
	}
	if x := explain("/a"); x.Mode != shuntv1.DispatchMode_DISPATCH_MODE_AUTO || !strings.Contains(fmt.Sprint(x.Steps), "nothing yet: both modes are tried") {
		t.Errorf("before anything is learnt: %v", x)
	}
	d1.report(&shuntv1.Report{PolicyVersion: r.Revision, Learned: []*shuntv1.LearnedRoute{{Service: "web", Route: "either", Sizes: []*shuntv1.LearnedSize{
		{Bits: 7, MoveUs: 450, Moved: 32, CopyUs: 200, Copied: 32}, {Bits: 14, MoveUs: 450, Moved: 1}, {Bits: 24, MoveUs: 510, Moved: 32, CopyUs: 9100, Copied: 8},
	}}}})
	want := "64 B to 128 B: copies (move 0.45 ms, copy 0.20 ms); 8 KiB to 16 KiB: both are tried (move 0.45 ms, copy not seen); 8 MiB to 16 MiB: moves (move 0.51 ms, copy 9.10 ms)"
	eventually(t, "what was learnt is told", func() bool {
		x := explain("/a")
		return strings.Contains(fmt.Sprint(x.Steps), want) && strings.Contains(fmt.Sprint(x.Steps), "learnt by dispatcher1")
	})
	if x := explain("/b"); x.Mode != shuntv1.DispatchMode_DISPATCH_MODE_MIGRATE || strings.Contains(fmt.Sprint(x.Steps), "learnt") {
		t.Errorf("a route that does not learn: %v", x)
	}
}
