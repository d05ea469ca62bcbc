package api

import (
	"io"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"
	reflectionv1 "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/internal/tlsconf/tlstest"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func TestLongListsComeInPartsAndLimitsAreChecked(t *testing.T) {
	c := shuntv1.NewOperatorServiceClient(serve(t, recorder(), ops{sessions: 2500}, slog.New(slog.DiscardHandler)))
	s, err := c.ListSessions(t.Context(), &shuntv1.ListSessionsRequest{})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []int{1000, 1000, 500} {
		if m, err := s.Recv(); err != nil || len(m.Sessions) != want {
			t.Fatalf("part %d: %d, %v", i, len(m.GetSessions()), err)
		}
	}
	if _, err := c.ListHandoffs(t.Context(), &shuntv1.ListHandoffsRequest{Limit: 10001}); status.Code(err) != codes.InvalidArgument {
		t.Errorf("limit: %v", err)
	}
	if _, err := c.ListHandoffs(t.Context(), &shuntv1.ListHandoffsRequest{Limit: 10000}); err != nil {
		t.Errorf("limit: %v", err)
	}
	if _, err := c.GetStatus(t.Context(), &shuntv1.GetStatusRequest{}); status.Code(err) != codes.Unavailable || !strings.Contains(err.Error(), "on fire") {
		t.Errorf("status: %v", err)
	}
	if _, err := c.ListFlows(t.Context(), &shuntv1.ListFlowsRequest{}); status.Code(err) != codes.DeadlineExceeded {
		t.Errorf("flows: %v", err)
	}
}

func TestHealthAndReflectionAreServed(t *testing.T) {
	conn := serve(t, recorder(), ops{}, slog.New(slog.DiscardHandler))
	h, err := healthv1.NewHealthClient(conn).Check(t.Context(), &healthv1.HealthCheckRequest{})
	if err != nil || h.Status != healthv1.HealthCheckResponse_SERVING {
		t.Errorf("health: %v, %v", h, err)
	}
	s, err := reflectionv1.NewServerReflectionClient(conn).ServerReflectionInfo(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&reflectionv1.ServerReflectionRequest{MessageRequest: &reflectionv1.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	m, err := s.Recv()
	if text := m.String(); err != nil || !strings.Contains(text, "shunt.v1.ControlService") || !strings.Contains(text, "shunt.v1.OperatorService") {
		t.Errorf("reflection: %v, %v", text, err)
	}
}

func TestTheOperatorsSocketIsPrivateAndServesOnlyOperators(t *testing.T) {
	path := filepath.Join(t.TempDir(), "run", "controller.sock")
	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	run(t, New(nil, silence, recorder(), ops{}, slog.New(slog.DiscardHandler)), nil, l)
	if info, err := os.Stat(path); err != nil || info.Mode() != os.ModeSocket|0o600 {
		t.Errorf("socket: %v, %v", info.Mode(), err)
	}
	conn, err := grpc.NewClient("unix:"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close()
	if r, err := shuntv1.NewOperatorServiceClient(conn).ListServices(t.Context(), &shuntv1.ListServicesRequest{}); err != nil || len(r.Services) != 1 {
		t.Errorf("services: %v, %v", r, err)
	}
	s, err := shuntv1.NewControlServiceClient(conn).Attach(t.Context())
	if err == nil {
		_, err = s.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("an agent on the operators' socket: %v", err)
	}
}

func TestASocketThatWasLeftBehindIsReplacedAndOtherFilesAreNot(t *testing.T) {
	path := filepath.Join(t.TempDir(), "s")
	stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: path})
	if err != nil {
		t.Fatal(err)
	}
	stale.SetUnlinkOnClose(false)
	stale.Close()
	l, err := ListenUnix(path)
	if err != nil {
		t.Fatal(err)
	}
	l.Close()
	if _, err := os.Lstat(path); !os.IsNotExist(err) {
		t.Errorf("after Close: %v", err)
	}
	if left, _ := filepath.Glob(filepath.Join(filepath.Dir(path), ".*")); len(left) != 0 {
		t.Errorf("left behind: %v", left)
	}
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := ListenUnix(path); err == nil || !strings.Contains(err.Error(), "not a socket") {
		t.Errorf("over a file: %v", err)
	}
}

func TestOnlyPeersOfTheAuthorityGetIn(t *testing.T) {
	ca := tlstest.NewCA(t)
	conf, err := ca.Files(t, "controller", "127.0.0.1").Server()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, New(conf, silence, recorder(), ops{}, slog.New(slog.DiscardHandler)), l, nil)
	good, err := ca.Files(t, "agent").Client("")
	if err != nil {
		t.Fatal(err)
	}
	bad := good.Clone()
	bad.Certificates = nil
	for name, c := range map[string]struct {
		creds credentials.TransportCredentials
		want  codes.Code
	}{
		"with a certificate": {credentials.NewTLS(good), codes.OK},
		"without":            {credentials.NewTLS(bad), codes.Unavailable},
		"in clear text":      {insecure.NewCredentials(), codes.Unavailable},
	} {
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(c.creds))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		if _, err := shuntv1.NewOperatorServiceClient(conn).ListNodes(t.Context(), &shuntv1.ListNodesRequest{}); status.Code(err) != c.want {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

func TestANodeMustHaveACertificateForItsName(t *testing.T) {
	ca := tlstest.NewCA(t)
	conf, err := ca.Files(t, "controller", "127.0.0.1").Server()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	run(t, New(conf, silence, recorder(), ops{}, slog.New(slog.DiscardHandler)), l, nil)
	for name, want := range map[string]codes.Code{"server1": codes.OK, "server2": codes.PermissionDenied} {
		creds, err := ca.Files(t, name).Client("")
		if err != nil {
			t.Fatal(err)
		}
		conn, err := grpc.NewClient(l.Addr().String(), grpc.WithTransportCredentials(credentials.NewTLS(creds)))
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		stream, err := shuntv1.NewControlServiceClient(conn).Attach(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		if err := stream.Send(hello("server1")); err != nil {
			t.Fatal(err)
		}
		stream.CloseSend()
		_, err = stream.Recv()
		for err == nil {
			_, err = stream.Recv()
		}
		if err == io.EOF {
			err = nil
		}
		if status.Code(err) != want {
			t.Errorf("certificate of %s, name server1: %v, want %v", name, err, want)
		}
	}
}
