package python

import (
	"bufio"
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/internal/testnet"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// python is Debian's, which has its packages.
const python = "/usr/bin/python3"

// start makes the messages as the file says, runs it and returns it with its
// address.
func start(t *testing.T, args ...string) (*exec.Cmd, string) {
	t.Helper()
	testnet.NeedProgram(t, "protoc")
	testnet.NeedProgram(t, python)
	dir := t.TempDir()
	protoc := exec.Command("protoc", "-I", "../../../proto", "--python_out="+dir, "shunt/v1/policy.proto", "shunt/v1/external.proto")
	if out, err := protoc.CombinedOutput(); err != nil {
		t.Fatalf("protoc: %v\n%s", err, out)
	}
	address := "unix:" + filepath.Join(dir, "s")
	cmd := exec.Command(python, append([]string{"policy.py", "--listen", address}, args...)...)
	cmd.Env = append(os.Environ(), "PYTHONPATH="+dir)
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		cmd.Process.Signal(syscall.SIGTERM)
		cmd.Wait() // by a signal or by itself
	})
	if line, err := bufio.NewReader(out).ReadString('\n'); err != nil || !strings.Contains(line, "is up") {
		t.Fatalf("it says %q, %v; are python3-grpcio and python3-protobuf installed?", line, err)
	}
	return cmd, address
}

func dial(t *testing.T, address string) shuntv1.ExternalPolicyServiceClient {
	t.Helper()
	conn, err := grpc.NewClient(address, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close() })
	return shuntv1.NewExternalPolicyServiceClient(conn)
}

func request(change func(*shuntv1.ChooseRequest)) *shuntv1.ChooseRequest {
	r := &shuntv1.ChooseRequest{Service: "web", Route: "api", Pool: "app", Method: "GET", Host: "shop.example", Path: "/", Client: "192.0.2.7", Candidates: []*shuntv1.Candidate{
		{Server: "server1", Weight: 1, Load: 5}, {Server: "server2", Weight: 4, Load: 8}, {Server: "server3-canary", Weight: 1, Load: 50}, {Server: "server4", Weight: 0},
	}}
	if change != nil {
		change(r)
	}
	return r
}

func TestThePythonExampleChoosesAndRejects(t *testing.T) {
	_, address := start(t, "--read-only")
	c := dial(t, address)
	for _, x := range []struct {
		name   string
		change func(*shuntv1.ChooseRequest)
		server string
		status uint32
	}{
		{"least load for its weight", nil, "server2", 0},
		{"canary", func(r *shuntv1.ChooseRequest) { r.Headers = []*shuntv1.Header{{Name: "X-Canary", Value: "yes"}} }, "server3-canary", 0},
		{"not canary", func(r *shuntv1.ChooseRequest) { r.Headers = []*shuntv1.Header{{Name: "X-Canary", Value: "no"}} }, "server2", 0},
		{"no candidate fits", func(r *shuntv1.ChooseRequest) { r.Candidates = r.Candidates[2:] }, "", 0},
		{"rejected", func(r *shuntv1.ChooseRequest) { r.Method = "POST" }, "", 503},
	} {
		ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
		got, err := c.Choose(ctx, request(x.change), grpc.WaitForReady(true))
		cancel()
		if err != nil || got.GetServer() != x.server || got.GetReject().GetStatus() != x.status {
			t.Errorf("%s: %v, %v", x.name, got, err)
		}
	}
}

// TestAKilledProgramIsNoticedAtOnce: a dispatcher need not wait for its deadline.
func TestAKilledProgramIsNoticedAtOnce(t *testing.T) {
	cmd, address := start(t)
	c := dial(t, address)
	if _, err := c.Choose(t.Context(), request(nil), grpc.WaitForReady(true)); err != nil {
		t.Fatal(err)
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	cmd.Wait() // killed: its error says nothing
	began := time.Now()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	if _, err := c.Choose(ctx, request(nil)); status.Code(err) != codes.Unavailable || time.Since(began) > 5*time.Second {
		t.Errorf("after %v: %v", time.Since(began), err)
	}
}
