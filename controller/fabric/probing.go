package fabric

import (
	"context"

	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// Probe finds out what a switch that is not being driven can do, as Run does
// before it drives one: flows are added to a table that no packet reaches, and
// removed again.
func Probe(ctx context.Context, conn *openflow.Conn) (pipeline.Features, error) {
	return probe(ctx, conn, Auto, DefaultZone)
}
