package api

import (
	"context"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

const (
	defaultHandoffs = 100
	maxHandoffs     = 10000
	// sessionsPart is how many sessions one message of ListSessions carries.
	sessionsPart = 1000
)

// Operations answers operators. What it returns is not changed afterwards.
type Operations interface {
	Status(ctx context.Context) (*shuntv1.GetStatusResponse, error)
	Services() []*shuntv1.Service
	Sessions(ctx context.Context) ([]*shuntv1.SessionInfo, error)
	// Handoffs returns up to limit, newest first.
	Handoffs(ctx context.Context, limit int) ([]*shuntv1.Handoff, error)
	Nodes() []*shuntv1.NodeInfo
	Flows(ctx context.Context) ([]*shuntv1.FlowInfo, error)
}

// operator is the OperatorService.
type operator struct {
	shuntv1.UnimplementedOperatorServiceServer
	ops Operations
}

func (o *operator) GetStatus(ctx context.Context, _ *shuntv1.GetStatusRequest) (*shuntv1.GetStatusResponse, error) {
	r, err := o.ops.Status(ctx)
	return r, failure(err)
}

func (o *operator) ListServices(context.Context, *shuntv1.ListServicesRequest) (*shuntv1.ListServicesResponse, error) {
	return &shuntv1.ListServicesResponse{Services: o.ops.Services()}, nil
}

func (o *operator) ListSessions(_ *shuntv1.ListSessionsRequest, stream grpc.ServerStreamingServer[shuntv1.ListSessionsResponse]) error {
	list, err := o.ops.Sessions(stream.Context())
	if err != nil {
		return failure(err)
	}
	for len(list) > 0 {
		n := min(len(list), sessionsPart)
		if err := stream.Send(&shuntv1.ListSessionsResponse{Sessions: list[:n]}); err != nil {
			return err
		}
		list = list[n:]
	}
	return nil
}

func (o *operator) ListHandoffs(ctx context.Context, r *shuntv1.ListHandoffsRequest) (*shuntv1.ListHandoffsResponse, error) {
	limit := int(r.GetLimit())
	switch {
	case limit == 0:
		limit = defaultHandoffs
	case limit > maxHandoffs:
		return nil, status.Errorf(codes.InvalidArgument, "limit %d is too large; ask for at most %d", limit, maxHandoffs)
	}
	list, err := o.ops.Handoffs(ctx, limit)
	return &shuntv1.ListHandoffsResponse{Handoffs: list}, failure(err)
}

func (o *operator) ListNodes(context.Context, *shuntv1.ListNodesRequest) (*shuntv1.ListNodesResponse, error) {
	return &shuntv1.ListNodesResponse{Nodes: o.ops.Nodes()}, nil
}

func (o *operator) ListFlows(ctx context.Context, _ *shuntv1.ListFlowsRequest) (*shuntv1.ListFlowsResponse, error) {
	flows, err := o.ops.Flows(ctx)
	return &shuntv1.ListFlowsResponse{Flows: flows}, failure(err)
}

// failure makes a status of an error that is none.
func failure(err error) error {
	if err == nil {
		return nil
	}
	if s, ok := status.FromError(err); ok {
		return s.Err()
	}
	if s := status.FromContextError(err); s.Code() != codes.Unknown {
		return s.Err()
	}
	return status.Error(codes.Unavailable, err.Error())
}
