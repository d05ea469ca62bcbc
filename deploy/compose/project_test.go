//go:build compose

package compose

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A project is the lab of containers of docker-compose.yml, under a name of the
// test's own.
type project struct {
	t      *testing.T
	name   string
	env    []string
	engine *engine // nil: the one that DOCKER_HOST names
}

// newProject returns a project that is taken down when the test ends.
func newProject(t *testing.T, e *engine) *project {
	p := &project{t: t, name: fmt.Sprintf("shunt-compose-test-%d", os.Getpid()), engine: e}
	if e != nil {
		p.env = e.env()
	}
	t.Cleanup(func() {
		if t.Failed() {
			p.explain()
		}
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		begin := time.Now()
		if out, err := p.compose(ctx, "down", "--volumes", "--remove-orphans", "--timeout", "5").CombinedOutput(); err != nil {
			t.Errorf("docker-compose down: %v: %s", err, out)
		}
		t.Logf("docker-compose down: %v", time.Since(begin).Round(time.Second/10))
		for _, kind := range [][]string{{"ps", "--all"}, {"volume", "ls"}, {"network", "ls"}} {
			args := append(kind, "--quiet", "--filter", "label=com.docker.compose.project="+p.name)
			if out, err := command(ctx, p.env, "docker", args...).CombinedOutput(); err != nil || len(out) > 0 {
				t.Errorf("docker %s, after down: %v: %s", kind[0], err, out)
			}
		}
	})
	return p
}

// compose is docker-compose, whose file is the repository's.
func (p *project) compose(ctx context.Context, args ...string) *exec.Cmd {
	program := []string{"docker-compose"}
	if other := os.Getenv("COMPOSE"); other != "" { // for example COMPOSE="docker compose"
		program = strings.Fields(other)
	}
	args = append(program[1:], append([]string{"--project-name", p.name}, args...)...)
	cmd := command(ctx, p.env, program[0], args...)
	cmd.Dir = "../.."
	return cmd
}

// up builds the images and starts the lab. Compose returns when everything that
// others wait for is healthy.
func (p *project) up() {
	p.t.Helper()
	build := []string{"build"}
	if p.engine != nil {
		build = append(build, "--build-arg", "http_proxy="+p.engine.proxy)
	}
	for _, args := range [][]string{build, {"up", "--detach", "--no-build"}} {
		begin := time.Now()
		if out, err := p.compose(p.t.Context(), args...).CombinedOutput(); err != nil {
			p.t.Fatalf("docker-compose %s: %v:\n%s", args[0], err, out[max(0, len(out)-4096):])
		}
		p.t.Logf("docker-compose %s: %v", args[0], time.Since(begin).Round(time.Second/10))
	}
	p.healthy("client")
}

// container returns the number of a service's container, running or not.
func (p *project) container(service string) string {
	p.t.Helper()
	id := strings.TrimSpace(p.docker("ps", "--all", "--quiet",
		"--filter", "label=com.docker.compose.project="+p.name, "--filter", "label=com.docker.compose.service="+service))
	if id == "" || strings.Contains(id, "\n") {
		p.t.Fatalf("service %s has containers %q, want one", service, id)
	}
	return id
}

// docker runs a command that must succeed and returns its output.
func (p *project) docker(args ...string) string {
	p.t.Helper()
	return run(p.t, p.env, "docker", args...)
}

// exec runs a command in a service's container, with its standard output only.
func (p *project) exec(service string, args ...string) (string, error) {
	p.t.Helper()
	cmd := p.execCommand(p.t.Context(), service, args...)
	var stderr bytes.Buffer
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		err = fmt.Errorf("%s: %s: %w: %s", service, strings.Join(args, " "), err, stderr.Bytes())
	}
	return string(out), err
}

func (p *project) execCommand(ctx context.Context, service string, args ...string) *exec.Cmd {
	p.t.Helper()
	return command(ctx, p.env, "docker", append([]string{"exec", p.container(service)}, args...)...)
}

// kill ends a container as a crash of its machine would; start starts it again.
func (p *project) kill(service string) {
	p.t.Helper()
	p.docker("kill", "--signal", "KILL", p.container(service))
}

func (p *project) start(service string) {
	p.t.Helper()
	p.docker("start", p.container(service))
	p.healthy(service)
}

// healthy waits until a service's health check succeeds.
func (p *project) healthy(service string) {
	p.t.Helper()
	id := p.container(service)
	wait(p.t, time.Minute, service+" to be healthy", func(context.Context) error {
		if state := strings.TrimSpace(p.docker("inspect", "--format", "{{.State.Status}} {{.State.Health.Status}}", id)); state != "running healthy" {
			return fmt.Errorf("it is %s", state)
		}
		return nil
	})
}

// logs returns what a service has written.
func (p *project) logs(service string) string {
	p.t.Helper()
	cmd := command(p.t.Context(), p.env, "docker", "logs", p.container(service))
	out, err := cmd.CombinedOutput()
	if err != nil {
		p.t.Fatalf("docker logs of %s: %v: %s", service, err, out)
	}
	return string(out)
}

// status is what `shunt status -o json` says.
type status struct {
	Handoffs struct {
		Completed, Failed int64
	}
	Requests struct {
		Proxied int64
	}
	Switches []struct {
		Connected bool
		Steering  string
	}
	Nodes []struct {
		Name string
		Up   bool
	}
}

func (p *project) status() (s status, err error) {
	p.t.Helper()
	err = p.shunt(&s, "status")
	return s, err
}

// shunt runs one of the operator's verbs in the controller's container.
func (p *project) shunt(into any, verb ...string) error {
	p.t.Helper()
	out, err := p.exec("controller", append(append([]string{"shunt"}, verb...), "-o", "json")...)
	if err != nil {
		return err
	}
	return json.Unmarshal([]byte(out), into)
}

// explain logs what a failed test's containers say.
func (p *project) explain() {
	out, _ := p.compose(context.Background(), "ps").CombinedOutput()
	p.t.Logf("containers:\n%s", out)
	out, _ = p.compose(context.Background(), "logs", "--no-color", "--tail", "25").CombinedOutput()
	p.t.Logf("their logs' last lines:\n%s", out)
}

func command(ctx context.Context, env []string, name string, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, name, args...)
	cmd.Env = append(os.Environ(), env...)
	return cmd
}

// run runs a command that must succeed and returns its output.
func run(t *testing.T, env []string, name string, args ...string) string {
	t.Helper()
	out, err := command(t.Context(), env, name, args...).CombinedOutput()
	if err != nil {
		t.Fatalf("%s %s: %v: %s", name, strings.Join(args, " "), err, out)
	}
	return string(out)
}

// wait tries until it succeeds, and fails the test after a while.
func wait(t *testing.T, patience time.Duration, what string, try func(context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	for {
		err := try(ctx)
		if err == nil {
			return
		}
		if pause(ctx) != nil {
			t.Fatalf("waited %v for %s: %v", patience, what, err)
		}
	}
}

// pause lets a poll rest for a moment.
func pause(ctx context.Context) error {
	timer := time.NewTimer(100 * time.Millisecond)
	defer timer.Stop()
	select {
	case <-timer.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}
