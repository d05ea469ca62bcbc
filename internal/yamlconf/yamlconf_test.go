package yamlconf

import (
	"errors"
	"strings"
	"testing"
	"time"
)

// shape is a configuration of two values and a list.
type shape struct {
	port  At[uint16]
	wait  At[time.Duration]
	names []At[string]
}

func read(text string) (shape, error) {
	r := NewReader("f.yaml")
	var s shape
	if root := r.Root([]byte(text)); root != nil {
		r.Mapping(root, "the configuration",
			Needed("port", "write one", Scalar(r, "port", &s.port, Port)),
			Optional("wait", Scalar(r, "wait", &s.wait, Between(time.Second, time.Minute))),
			Optional("names", Scalars(r, "name", &s.names, Name)))
		Distinct(r, s.names, "name")
	}
	return s, r.Err()
}

func TestValuesKeepTheirPlace(t *testing.T) {
	s, err := read("port: 80\nnames: [a, b]\n")
	if err != nil {
		t.Fatal(err)
	}
	if s.port.V != 80 || s.port.N.Line != 1 || s.port.N.Column != 7 {
		t.Errorf("port %+v", s.port)
	}
	if got := strings.Join(Values(s.names), " "); got != "a b" || s.names[1].N.Column != 12 {
		t.Errorf("names %q", got)
	}
	if s.wait.N != nil || s.wait.Or(5*time.Second) != 5*time.Second || s.port.Or(1) != 80 {
		t.Error("a standard value replaced a given one, or the other way round")
	}
}

func TestMistakesStandInTheFilesOrder(t *testing.T) {
	_, err := read("names: [a, b, a, -x]\nwait: 2h\nprt: 1\n")
	want := `f.yaml:1:1: the configuration has no "port"; write one
f.yaml:1:15: name "a" stands there twice, first in line 1; remove or rename one
f.yaml:1:18: name "-x" is not a name; write 1 to 63 letters, digits, '.', '_' or '-', a letter or digit first and last
f.yaml:2:7: wait "2h" is out of range; write 1s to 1m0s
f.yaml:3:1: the configuration has an unknown field "prt"; did you mean "port"?`
	if err == nil || err.Error() != want {
		t.Errorf("got\n%v\nwant\n%s", err, want)
	}
}

func TestErrorsAreLimited(t *testing.T) {
	_, err := read("port: 1\nnames: [" + strings.Repeat("a, ", 100) + "]")
	var es Errors
	if !errors.As(err, &es) || len(es) != MaxErrors {
		t.Errorf("%d mistakes, want %d", len(es), MaxErrors)
	}
	_, err = read(strings.Repeat("#", MaxSize+1))
	if want := "f.yaml: has 1048577 octets, at most 1048576 are read; split nothing into it but the configuration"; err == nil || err.Error() != want {
		t.Errorf("got %v, want %s", err, want)
	}
}

func TestSecurityIsOneOfTwo(t *testing.T) {
	for text, want := range map[string]string{
		"insecure: true":                                   "",
		"tls: {cert: /a, key: /b, ca: /c}":                 "",
		"insecure: false":                                  "neither TLS nor its absence",
		"insecure: true\ntls: {cert: /a, key: /b, ca: /c}": "both tls and insecure",
	} {
		r := NewReader("f.yaml")
		var s Security
		root := r.Root([]byte(text))
		r.Mapping(root, "the configuration", Optional("tls", s.ReadTLS(r, "its")), Optional("insecure", s.ReadInsecure(r)))
		s.Check(r, root)
		if err := r.Err(); (err == nil) != (want == "") || err != nil && !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v, want %q", text, err, want)
		}
	}
}
