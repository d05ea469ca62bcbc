package policyyaml

import (
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"google.golang.org/protobuf/proto"
	"google.golang.org/protobuf/reflect/protoreflect"
	"google.golang.org/protobuf/testing/protocmp"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func read(t testing.TB, path string) Source {
	t.Helper()
	data, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return Source{filepath.Base(path), data}
}

func TestEveryFieldOfTheAPIIsReadAndWrittenTheSame(t *testing.T) {
	s := read(t, "testdata/right/everything.yaml")
	d, _, err := Load(s)
	if err != nil {
		t.Fatal(err)
	}
	out, err := Marshal(d.Policy)
	if err != nil {
		t.Fatal(err)
	}
	again, _, err := Load(Source{"export", out})
	if err != nil {
		t.Fatalf("the export is not right: %v\n%s", err, out)
	}
	if diff := cmp.Diff(d.Policy, again.Policy, protocmp.Transform()); diff != "" {
		t.Errorf("export and import differ:\n%s", diff)
	}
	if diff := Diff(string(s.Data), string(out), 1); strings.Count(diff, "\n-") > 12 {
		t.Errorf("the export looks different:\n%s", diff)
	}
	seen := make(map[protoreflect.FullName]bool)
	visit(d.Policy.ProtoReflect(), seen)
	for _, name := range unseen((&shuntv1.Policy{}).ProtoReflect().Descriptor(), seen) {
		t.Errorf("the example does not have %s", name)
	}
}

func visit(m protoreflect.Message, seen map[protoreflect.FullName]bool) {
	m.Range(func(f protoreflect.FieldDescriptor, v protoreflect.Value) bool {
		seen[f.FullName()] = true
		switch {
		case f.Message() == nil:
		case f.IsList():
			for i := range v.List().Len() {
				visit(v.List().Get(i).Message(), seen)
			}
		default:
			visit(v.Message(), seen)
		}
		return true
	})
}

// unseen lists the fields that an operator can set and the example has not.
func unseen(d protoreflect.MessageDescriptor, seen map[protoreflect.FullName]bool) []string {
	var out []string
	for i := range d.Fields().Len() {
		f := d.Fields().Get(i)
		alike := f.ContainingOneof() != nil && d.Name() == "HashKey" || f.Name() == "version"
		if !seen[f.FullName()] && !alike {
			out = append(out, string(f.FullName()))
		} else if f.Message() != nil && f.Message().FullName() != durationName {
			out = append(out, unseen(f.Message(), seen)...)
		}
	}
	return out
}

func TestDocumentsAndFilesArePutTogether(t *testing.T) {
	d, m, err := Load(
		Source{"a.yaml", []byte("services:\n- name: a\n  defaultPool: p\n---\nservices:\n- name: b\n  defaultPool: p\n")},
		Source{"b.yaml", []byte("# nothing\n---\n---\npools:\n- {name: p, members: [{server: s}]}\n")})
	if err != nil {
		t.Fatal(err)
	}
	want := &shuntv1.Policy{Services: []*shuntv1.ServicePolicy{{Name: "a", DefaultPool: "p"}, {Name: "b", DefaultPool: "p"}},
		Pools: []*shuntv1.Pool{{Name: "p", Members: []*shuntv1.Member{{Server: "s"}}}}}
	if !proto.Equal(d.Policy, want) {
		t.Errorf("got %v", d.Policy)
	}
	if w := m.Pools[0].Members[0].Weight; w != 1 {
		t.Errorf("a member without weight has weight %d", w)
	}
	_, _, err = Load(Source{"a.yaml", []byte("services:\n- name: a\n---\nservices:\n- name: a\n")})
	if err == nil || !strings.Contains(err.Error(), "a.yaml:5:9: ") {
		t.Errorf("a mistake in the second document: %v", err)
	}
}
