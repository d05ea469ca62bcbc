package configdoc

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

func read(t *testing.T) []File {
	t.Helper()
	files, err := Read("../..")
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func TestTheReferenceIsThatOfTheCode(t *testing.T) {
	have, err := os.ReadFile("../../docs/configuration.md")
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(Markdown(read(t)), string(have)); diff != "" {
		t.Errorf("docs/configuration.md: run make generate and commit it: from the code -, in the file +:\n%s", diff)
	}
}

func TestEveryKeyIsExplained(t *testing.T) {
	for _, f := range read(t) {
		for _, s := range f.Silent {
			t.Errorf("%s: write a comment at the field for the key %s", f.Name, s)
		}
	}
}

// find returns a key by its path, dots between.
func find(t *testing.T, m Mapping, path string) Key {
	t.Helper()
	first, rest, more := strings.Cut(path, ".")
	for _, k := range m.Keys {
		if k.Name == first && !more {
			return k
		} else if k.Name == first && k.Nested != nil {
			return find(t, *k.Nested, rest)
		}
	}
	t.Fatalf("no key %s", path)
	return Key{}
}

func TestWhatIsReadFromTheCode(t *testing.T) {
	files := read(t)
	agent, controller := files[0].Mapping, files[1].Mapping
	for _, c := range []struct {
		file Mapping
		path string
		want Key
	}{
		{agent, "node", Key{Needed: true, Value: "a name", Text: "unique in the cluster"}},
		{agent, "tls.key", Key{Needed: true, Value: "an absolute path"}},
		{controller, "listen.operator", Key{Value: "unix:/absolute/path of at most 88 octets", Default: "/run/shunt/controller.sock"}},
		{controller, "node_grace", Key{Value: "a duration, 1s to 1h", Default: "30s"}},
		{controller, "services.max_head", Key{Value: "1024 to 1048576 octets", Default: "16384"}},
		{controller, "switches.interfaces.ports", Key{Needed: true, List: true, Value: "text"}},
	} {
		got := find(t, c.file, c.path)
		c.want.Name = got.Name
		if c.want.Text == "" {
			c.want.Text = got.Text
		}
		if diff := cmp.Diff(c.want, got); diff != "" {
			t.Errorf("%s: want -, got +:\n%s", c.path, diff)
		}
	}
	if k := find(t, controller, "switches"); !k.List || k.Nested == nil {
		t.Errorf("switches is no list of mappings: %+v", k)
	}
}

func TestTheManualPageIsOneToMan(t *testing.T) {
	man := testnet.NeedProgram(t, "man")[0]
	path := t.TempDir() + "/shunt.yaml.5"
	if err := os.WriteFile(path, []byte(Man(read(t), "2026-01-02")), 0o644); err != nil {
		t.Fatal(err)
	}
	cmd := exec.CommandContext(t.Context(), man, "--warnings", "-l", path)
	cmd.Env = append(os.Environ(), "MANWIDTH=100", "LC_ALL=C.UTF-8", "MANPAGER=cat")
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil || stderr.Len() > 0 {
		t.Fatalf("%v: %s", err, &stderr)
	}
	if !strings.Contains(string(out), "max_head") {
		t.Error("a key is missing")
	}
}
