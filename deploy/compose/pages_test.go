//go:build compose

package compose

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/pages"
)

// answered is what /whoami answers, in the two families.
var answered = regexp.MustCompile(`(?m)^server[1-3]\r?$`)

// pagesCommands runs what the documentation has for a machine with Docker: the
// lab's in the checkout, the image's where the image is. The last one takes the
// lab down.
func pagesCommands(t *testing.T, p *project) {
	const root = "../.."
	all, err := pages.Read(root)
	if err != nil {
		t.Fatal(err)
	}
	bin := t.TempDir()
	p.docker2(bin)
	const version, image = "0.0~pages", "shunt:0.0-pages"
	dist := t.TempDir()
	run(t, nil, "go", "run", root+"/packaging/mkpackages", "-root", root, "-o", dist, "-version", version)
	ran := 0
	for _, page := range all {
		for _, b := range page.Blocks {
			if !b.Runs("docker") {
				continue
			}
			ran++
			dir := root
			if page.Path == "docs/install.md" {
				dir = dist
			}
			out := p.page(bin, dir, b)
			switch {
			case dir == dist:
				if got := p.docker("run", "--rm", "--network", "none", image, "--version"); !strings.Contains(got, version) {
					t.Errorf("%s: the image that was loaded says %q; loading it said %s", b.At(), got, out)
				}
				p.docker("rmi", image)
			case len(answered.FindAllString(out, -1)) < 2 || !strings.Contains(out, "completed") || !strings.Contains(out, clientAddress+" "):
				t.Errorf("%s: an answer is missing, or there is no hand-off or no line with the client's address:\n%s", b.At(), out)
			}
		}
	}
	if ran < 2 {
		t.Errorf("only %d blocks were found", ran)
	}
}

// page runs a block in a directory and returns its output.
func (p *project) page(bin, dir string, b pages.Block) string {
	p.t.Helper()
	ctx, cancel := context.WithTimeout(p.t.Context(), 5*time.Minute)
	defer cancel()
	begin := time.Now()
	env := append([]string{"COMPOSE_PROJECT_NAME=" + p.name, "PATH=" + bin + ":" + os.Getenv("PATH")}, p.env...)
	if p.engine != nil {
		env = append(env, "DOCKER_CONFIG="+bin)
	}
	cmd := command(ctx, env, "bash", "-euxo", "pipefail", "-c", b.Text)
	cmd.Dir = dir
	cmd.WaitDelay = 10 * time.Second // what it started may go on
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("%s: %v\n%s", b.At(), err, out[max(0, len(out)-8192):])
	}
	p.t.Logf("%s: %v", b.At(), time.Since(begin).Round(time.Second/10))
	return string(out)
}

// docker2 puts a program docker into bin that has Compose as v2 brings it: as a
// command of docker's, which does without a terminal where there is none.
// Debian 12 has v1.
func (p *project) docker2(bin string) {
	p.t.Helper()
	if p.engine != nil {
		// Builds take their proxy from here, as up has given it to them: without one
		// they would not find what it has left in the engine's cache, and would need a
		// way out.
		config := fmt.Sprintf(`{"proxies": {"default": {"httpProxy": %q}}}`, p.engine.proxy)
		if err := os.WriteFile(filepath.Join(bin, "config.json"), []byte(config), 0o600); err != nil {
			p.t.Fatal(err)
		}
	}
	if os.Getenv("COMPOSE") == "docker compose" {
		return
	}
	const script = `#!/bin/sh
PATH=${PATH#*:} # without this program
[ "$1" = compose ] || exec docker "$@"
shift
if [ "$1" = exec ]; then
    shift
    exec docker-compose exec -T "$@"
fi
exec docker-compose "$@"
`
	if err := os.WriteFile(filepath.Join(bin, "docker"), []byte(script), 0o755); err != nil {
		p.t.Fatal(err)
	}
}

// With an engine that knows the capability, agents do without CAP_SYS_ADMIN.
func agentsCanHaveLess(t *testing.T, p *project) {
	cmd := p.compose(t.Context(), "config")
	cmd.Env = append(cmd.Env, "SHUNT_EBPF_CAPABILITY=BPF")
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("docker-compose config: %v", err)
	}
	if n := strings.Count(string(out), "- BPF\n"); n != len(dispatchers)+len(servers) || strings.Contains(string(out), "SYS_ADMIN") {
		t.Errorf("%d services have CAP_BPF; the rest: SYS_ADMIN %v", n, strings.Contains(string(out), "SYS_ADMIN"))
	}
}
