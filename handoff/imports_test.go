package handoff

import (
	"os/exec"
	"strings"
	"testing"
)

// Programs that import this package should not have to take Shunt's agent and
// its libraries with it.
func TestImportsNothingButTheStandardLibraryAndTheProtocol(t *testing.T) {
	out, err := exec.Command("go", "list", "-deps", "-f", "{{if not .Standard}}{{.ImportPath}}{{end}}", ".").CombinedOutput()
	if err != nil {
		t.Fatalf("go list: %v: %s", err, out)
	}
	for _, p := range strings.Fields(string(out)) {
		switch strings.TrimPrefix(p, "github.com/shunt-sdn/shunt/") {
		case "handoff", "internal/handoffproto", "internal/httpframe":
		default:
			t.Errorf("imports %s", p)
		}
	}
}
