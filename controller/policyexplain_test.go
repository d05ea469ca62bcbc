package controller

import (
	"errors"
	"testing"

	"github.com/shunt-sdn/shunt/controller/policystore"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// FuzzExplainedRequest: whatever an operator writes is explained or refused with
// the field that is wrong.
func FuzzExplainedRequest(f *testing.F) {
	for _, s := range []string{"/", "/a?b=c", "http://10.10.0.80/x", "http://[fd10::80]:80/%2e%2e/x?", "web:80/", "http://", "//web/x", "http://a b/", "*", "http://web:99999/", "?", "\x00"} {
		f.Add("GET", s, "Host", "web", "10.0.0.1")
	}
	v := &view{config: &shuntv1.NodeConfig{Services: []*shuntv1.Service{
		{Name: "web", Vips: []*shuntv1.Endpoint{{Address: []byte{10, 10, 0, 80}, Port: 80}, nil, {Address: []byte{1}}}}, {Name: "api"},
	}}}
	f.Fuzz(func(t *testing.T, method, url, name, value, client string) {
		q, service, err := v.request(&shuntv1.ExplainRequest{Method: method, Url: url, Client: client, Headers: []*shuntv1.Header{{Name: name, Value: value}}})
		var invalid *policystore.Invalid
		switch {
		case err != nil && !errors.As(err, &invalid):
			t.Errorf("%q: %v", url, err)
		case err == nil && (q.Path == "" || service == "" || q.Method == ""):
			t.Errorf("%q: %+v for service %q", url, q, service)
		}
	})
}
