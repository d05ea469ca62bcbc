// Package operator shows operators what the controller says: as JSON with a
// shape that scripts can rely on, or as tables for people.
package operator

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// DefaultAddress is where a controller on this host listens for operators.
const DefaultAddress = "unix:/run/shunt/controller.sock"

// maxMessage bounds an answer, octets: the flows of a large switch.
const maxMessage = 256 << 20

// Target is how to reach a controller.
type Target struct {
	// Address is unix:/path or host:port.
	Address string
	// TLS is used with host:port if any file is named; a unix socket needs none.
	TLS tlsconf.Files
}

// Client asks one controller.
type Client struct {
	conn    *grpc.ClientConn
	api     shuntv1.OperatorServiceClient
	address string
}

// Dial prepares to ask the controller; it connects on the first question.
func Dial(t Target) (*Client, error) {
	target, creds := t.Address, insecure.NewCredentials()
	if !strings.HasPrefix(t.Address, "unix:") {
		host, _, err := net.SplitHostPort(t.Address)
		if err != nil || host == "" {
			return nil, fmt.Errorf("controller %q is neither unix:/path nor host:port; correct --controller or SHUNT_CONTROLLER", t.Address)
		}
		target = "passthrough:///" + t.Address
		if t.TLS != (tlsconf.Files{}) {
			conf, err := t.TLS.Client("")
			if err != nil {
				return nil, err
			}
			creds = credentials.NewTLS(conf)
		}
	}
	conn, err := grpc.NewClient(target, grpc.WithTransportCredentials(creds),
		grpc.WithDefaultCallOptions(grpc.MaxCallRecvMsgSize(maxMessage)))
	if err != nil {
		return nil, fmt.Errorf("controller %s: %w", t.Address, err)
	}
	return &Client{conn, shuntv1.NewOperatorServiceClient(conn), t.Address}, nil
}

// Close closes the connection.
func (c *Client) Close() error { return c.conn.Close() }

// explain says what the operator can do about err.
func (c *Client) explain(err error) error {
	switch s := status.Convert(err); s.Code() {
	case codes.OK:
		return nil
	case codes.Unavailable:
		return fmt.Errorf("controller %s: %s; is it running, is --controller or SHUNT_CONTROLLER right, and does it want TLS?", c.address, s.Message())
	case codes.DeadlineExceeded:
		return fmt.Errorf("controller %s did not answer in time; try a longer --timeout", c.address)
	default:
		return fmt.Errorf("controller %s: %s", c.address, s.Message())
	}
}

// Status asks how the cluster is.
func (c *Client) Status(ctx context.Context) (Status, error) {
	r, err := c.api.GetStatus(ctx, &shuntv1.GetStatusRequest{})
	if err != nil {
		return Status{}, c.explain(err)
	}
	return statusOf(r), nil
}

// Services asks for the services and their leases.
func (c *Client) Services(ctx context.Context) (Services, error) {
	r, err := c.api.ListServices(ctx, &shuntv1.ListServicesRequest{})
	return each(r.GetServices(), serviceOf), c.explain(err)
}

// Sessions asks for every session.
func (c *Client) Sessions(ctx context.Context) (Sessions, error) {
	stream, err := c.api.ListSessions(ctx, &shuntv1.ListSessionsRequest{})
	if err != nil {
		return nil, c.explain(err)
	}
	list := Sessions{}
	for {
		part, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			return list, nil
		}
		if err != nil {
			return nil, c.explain(err)
		}
		list = append(list, each(part.Sessions, sessionOf)...)
	}
}

// Handoffs asks for up to limit hand-offs, newest first; 0: the controller's default.
func (c *Client) Handoffs(ctx context.Context, limit uint32) (Handoffs, error) {
	r, err := c.api.ListHandoffs(ctx, &shuntv1.ListHandoffsRequest{Limit: limit})
	return each(r.GetHandoffs(), handoffOf), c.explain(err)
}

// Nodes asks for the nodes.
func (c *Client) Nodes(ctx context.Context) (Nodes, error) {
	r, err := c.api.ListNodes(ctx, &shuntv1.ListNodesRequest{})
	return each(r.GetNodes(), nodeOf), c.explain(err)
}

// Flows asks for Shunt's flows in the switches.
func (c *Client) Flows(ctx context.Context) (Flows, error) {
	r, err := c.api.ListFlows(ctx, &shuntv1.ListFlowsRequest{})
	return each(r.GetFlows(), flowOf), c.explain(err)
}
