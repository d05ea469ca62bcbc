package demo

import (
	"bytes"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/lab/app"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// carryOut runs the transfers against a handler.
func carryOut(t *testing.T, h http.Handler, plan Plan) (*run, string, error) {
	t.Helper()
	s := httptest.NewServer(h)
	defer s.Close()
	var out bytes.Buffer
	r := &run{plan: plan, out: &out, base: s.URL, answers: map[string]*answer{}}
	err := r.transfers(t.Context(), s.Client())
	return r, out.String(), err
}

var small = Plan{Requests: 20, Download: 300_000, Upload: 200_000}

func TestTransfersCountWhatEachServerAnswered(t *testing.T) {
	r, out, err := carryOut(t, app.Handler("server1"), small)
	if err != nil {
		t.Fatal(err)
	}
	want := map[string]*answer{"server1": {small: 20, large: 2, octets: 320_000, octetsUploads: 200_000}}
	if d := cmp.Diff(want, r.answers, cmp.AllowUnexported(answer{})); d != "" {
		t.Error(d)
	}
	if got := r.delivered.Load(); got != 520_000 {
		t.Errorf("delivered %d octets", got)
	}
	if strings.Count(out, "100 %") != 3 {
		t.Errorf("progress:\n%s", out)
	}
}

// twist changes the bodies of answers to paths with a prefix.
func twist(prefix string, change func([]byte) []byte) http.Handler {
	good := app.Handler("server1")
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if !strings.HasPrefix(r.URL.Path, prefix) {
			good.ServeHTTP(w, r)
			return
		}
		rec := httptest.NewRecorder()
		good.ServeHTTP(rec, r)
		_, _ = w.Write(change(rec.Body.Bytes()))
	})
}

func TestAWrongOctetIsAnError(t *testing.T) {
	flip := func(b []byte) []byte { b[len(b)/2] ^= 1; return b }
	var mismatch *app.Mismatch
	for name, h := range map[string]http.Handler{
		"in a small answer": twist("/bytes/1000", flip),
		"in the download":   twist("/bytes/300000", flip),
		"missing":           twist("/bytes/300000", func(b []byte) []byte { return b[:len(b)-1] }),
		"too many":          twist("/bytes/300000", func(b []byte) []byte { return append(b, 0) }),
	} {
		if _, _, err := carryOut(t, h, small); !errors.As(err, &mismatch) {
			t.Errorf("%s: %v, want a mismatch", name, err)
		}
	}
	digest := twist("/echo", func(b []byte) []byte { return bytes.Replace(b, []byte("200000"), []byte("199999"), 1) })
	if _, _, err := carryOut(t, digest, small); err == nil || !strings.Contains(err.Error(), "received") {
		t.Errorf("in the upload: %v", err)
	}
	refuse := http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusServiceUnavailable) })
	if _, _, err := carryOut(t, refuse, small); err == nil || !strings.Contains(err.Error(), "503") {
		t.Errorf("refused: %v", err)
	}
}

func TestStepsAreOfCompletedHandoffs(t *testing.T) {
	got := steps([]*shuntv1.Handoff{
		{Outcome: shuntv1.Outcome_OUTCOME_COMPLETED, TotalUs: 30, Steps: []*shuntv1.Step{{Name: "dump", DurationUs: 10}, {Name: "send", DurationUs: 20}}},
		{Outcome: shuntv1.Outcome_OUTCOME_ROLLED_BACK, TotalUs: 99, Steps: []*shuntv1.Step{{Name: "dump", DurationUs: 99}}},
		{Outcome: shuntv1.Outcome_OUTCOME_COMPLETED, TotalUs: 40, Steps: []*shuntv1.Step{{Name: "dump", DurationUs: 12}}},
	})
	want := []step{{"dump", []uint32{10, 12}}, {"send", []uint32{20}}, {"total", []uint32{30, 40}}}
	if d := cmp.Diff(want, got, cmp.AllowUnexported(step{})); d != "" {
		t.Error(d)
	}
}

func TestPercentile(t *testing.T) {
	hundred := make([]uint32, 100)
	for i := range hundred {
		hundred[i] = uint32(100 - i)
	}
	for _, tc := range []struct {
		values []uint32
		p      int
		want   uint32
	}{{nil, 50, 0}, {[]uint32{7}, 99, 7}, {[]uint32{1, 2}, 50, 1}, {hundred, 50, 50}, {hundred, 99, 99}} {
		if got := percentile(tc.values, tc.p); got != tc.want {
			t.Errorf("%d of %v: %d, want %d", tc.p, tc.values, got, tc.want)
		}
	}
}
