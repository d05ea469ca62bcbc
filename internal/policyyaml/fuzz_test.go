package policyyaml

import (
	"path/filepath"
	"testing"

	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/policy"
)

// Whatever is read can be written, and is then read the same; whatever is right
// can be compiled.
func FuzzYAML(f *testing.F) {
	for _, pattern := range []string{"testdata/wrong/*.yaml", "testdata/right/*.yaml"} {
		files, err := filepath.Glob(pattern)
		if err != nil {
			f.Fatal(err)
		}
		for _, path := range files {
			f.Add(read(f, path).Data)
		}
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		d, err := Read(Source{"fuzz", data})
		if err != nil {
			return
		}
		out, err := Marshal(d.Policy)
		if err != nil {
			t.Fatalf("what was read cannot be written: %v", err)
		}
		again, err := Read(Source{"again", out})
		if err != nil {
			t.Fatalf("what was written cannot be read: %v\n%s", err, out)
		}
		if !proto.Equal(d.Policy, again.Policy) {
			t.Fatalf("export and import differ:\n%v\n%v", d.Policy, again.Policy)
		}
		_, m, err := Load(Source{"fuzz", data})
		if err != nil {
			return
		}
		if _, err := policy.Compile(&m, policy.NewState(policy.Options{})); err != nil {
			t.Fatalf("right, but cannot be compiled: %v", err)
		}
	})
}
