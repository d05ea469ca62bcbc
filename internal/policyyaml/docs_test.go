package policyyaml

import (
	"os"
	"regexp"
	"strings"
	"testing"

	"google.golang.org/protobuf/reflect/protoreflect"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestTheExampleInTheDocumentationIsRight(t *testing.T) {
	text, err := os.ReadFile("../../docs/policy.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindAllSubmatch(text, -1)
	if len(blocks) == 0 {
		t.Fatal("there is no example")
	}
	for _, b := range blocks {
		if _, _, err := Load(Source{"docs/policy.md", b[1]}); err != nil {
			t.Error(err)
		}
	}
}

func TestTheReferenceHasEveryFieldAndValue(t *testing.T) {
	text, err := os.ReadFile("../../docs/policy-reference.md")
	if err != nil {
		t.Fatal(err)
	}
	words := make(map[string]bool)
	for _, w := range regexp.MustCompile(`[A-Za-z_]+`).FindAllString(strings.Join(regexp.MustCompile("`[^`]+`|(?s)```yaml.*?```").FindAllString(string(text), -1), " "), -1) {
		words[w] = true
	}
	var check func(d protoreflect.MessageDescriptor)
	check = func(d protoreflect.MessageDescriptor) {
		for i := range d.Fields().Len() {
			f := d.Fields().Get(i)
			if !words[f.JSONName()] {
				t.Errorf("the reference does not have %s", f.FullName())
			}
			if f.Enum() != nil {
				for _, n := range enumNames(f.Enum()) {
					if !words[n] {
						t.Errorf("the reference does not have the value %s of %s", n, f.FullName())
					}
				}
			}
			if f.Message() != nil && f.Message().FullName() != durationName {
				check(f.Message())
			}
		}
	}
	check((&shuntv1.Policy{}).ProtoReflect().Descriptor())
}
