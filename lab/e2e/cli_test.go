package e2e

import (
	"bytes"
	"encoding/json"
	"errors"
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
)

// shunt runs the program as a script does.
func shunt(t *testing.T, args ...string) (stdout, stderr string, status int) {
	t.Helper()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), binary, args...)
	cmd.Stdout, cmd.Stderr = &out, &errs
	var exit *exec.ExitError
	if err := cmd.Run(); errors.As(err, &exit) {
		status = exit.ExitCode()
	} else if err != nil {
		t.Fatal(err)
	}
	return out.String(), errs.String(), status
}

func TestALabByItsCommands(t *testing.T) {
	testnet.NeedRoot(t)
	testnet.NeedProgram(t, "curl")
	const name = "e2e-cli"
	down := func() {
		if _, stderr, status := shunt(t, "lab", "down", "--name", name); status != 0 {
			t.Errorf("lab down: status %d: %s", status, stderr)
		}
	}
	down() // also when there is none
	if _, stderr, status := shunt(t, "lab", "up", "--name", name, "--steering", "flows", "--servers", "2", "--ipv6"); status != 0 {
		t.Fatalf("lab up: status %d: %s", status, stderr)
	}
	defer down()

	t.Run("info", func(t *testing.T) {
		stdout, _, _ := shunt(t, "lab", "info", "--name", name, "-o", "json")
		var i lab.Info
		if err := json.Unmarshal([]byte(stdout), &i); err != nil {
			t.Fatalf("%v in %s", err, stdout)
		}
		if i.Name != name || i.Switch.Kind != "sim" || i.Switch.Steering != "flows" || len(i.Hosts) != 6 || !i.Service.VIP6.IsValid() {
			t.Errorf("info: %s", stdout)
		}
		for _, h := range i.Hosts {
			if h.Role == lab.RoleServer && (h.PIDs["agent"] == 0 || h.PIDs["app"] == 0) {
				t.Errorf("%s has daemons %v", h.Name, h.PIDs)
			}
		}
	})
	t.Run("exec", func(t *testing.T) {
		for _, tc := range []struct {
			command []string
			status  int
			stdout  string
		}{
			{[]string{"client1", "--", "curl", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://10.10.0.80/whoami"}, 0, "200"},
			{[]string{"client1", "--", "curl", "-g", "-s", "-o", "/dev/null", "-w", "%{http_code}", "http://[fd10::80]/whoami"}, 0, "200"},
			{[]string{"server2", "--", "sh", "-c", "exit 23"}, 23, ""},
			{[]string{"server2", "--", "no-such-program"}, 127, ""},
			{[]string{"switch", "--", "sh", "-c", "echo $1 --name x", "sh", "a b"}, 0, "a b --name x\n"},
			{[]string{"server9", "--", "true"}, 1, ""},
		} {
			stdout, stderr, status := shunt(t, append([]string{"lab", "exec", "--name", name}, tc.command...)...)
			if status != tc.status || stdout != tc.stdout {
				t.Errorf("%q: status %d, %q; want %d, %q; %s", tc.command, status, stdout, tc.status, tc.stdout, stderr)
			}
		}
	})
	t.Run("operator's verbs need no flags", func(t *testing.T) {
		for _, verb := range []string{"status", "sessions", "handoffs", "nodes", "flows"} {
			stdout, stderr, status := shunt(t, "lab", "exec", "--name", name, "controller", "--", "shunt", verb, "-o", "json")
			if status != 0 || !json.Valid([]byte(stdout)) {
				t.Errorf("%s: status %d, %s%s", verb, status, stdout, stderr)
			}
		}
	})
	t.Run("a second of the name is refused", func(t *testing.T) {
		if _, stderr, status := shunt(t, "lab", "up", "--name", name); status == 0 || !strings.Contains(stderr, "lab down --name "+name) {
			t.Errorf("status %d: %s", status, stderr)
		}
	})
}

func TestTheDemoDeliversEveryOctetAndLeavesNothing(t *testing.T) {
	testnet.NeedRoot(t)
	stdout, stderr, status := shunt(t, "lab", "demo", "--requests", "50", "--download", "5000000", "--upload", "3000000")
	if status != 0 || !strings.Contains(stdout, "Hand-offs: 52 completed") || !strings.Contains(stdout, "All octets were right") {
		t.Errorf("status %d: %s%s", status, stdout, stderr)
	}
	if _, err := os.Stat(lab.Dir + "/demo"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("the lab's directory: %v", err)
	}
}
