package main

import (
	"fmt"
	"log/slog"
	"net"
	"os"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/lab/app"
)

// newLabApp is the web server of the lab's servers.
func newLabApp() *cobra.Command {
	cmd := &cobra.Command{
		Use:    "app",
		Short:  "Run the web server of a lab's server",
		Args:   cobra.NoArgs,
		Hidden: true,
	}
	f := cmd.Flags()
	name := f.String("name", "", "the node's name")
	direct := f.StringArray("direct", nil, "address:port for ordinary connections; may be repeated")
	socket := f.String("socket", "", "the agent's socket for handed-off connections")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		log := slog.New(slog.NewTextHandler(os.Stderr, nil))
		var listeners []net.Listener
		for _, a := range *direct {
			var lc net.ListenConfig
			l, err := lc.Listen(ctx, "tcp", a)
			if err != nil {
				return fmt.Errorf("listen for ordinary connections: %w", err)
			}
			listeners = append(listeners, l)
		}
		_ = *socket
		return app.Serve(ctx, *name, log, listeners...)
	}
	return cmd
}
