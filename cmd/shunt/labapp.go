package main

import (
	"errors"
	"fmt"
	"net"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/handoff"
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
	name := f.String("name", "", "the node's `name`")
	direct := f.StringArray("direct", nil, "`address:port` for ordinary connections; may be repeated")
	socket := f.String("socket", "", "the agent's socket for handed-off connections")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		if *name == "" || len(*direct) == 0 && *socket == "" {
			return errors.New("--name, and --direct or --socket, must be given")
		}
		log, err := logger("info")
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		var listeners []net.Listener
		defer func() {
			if err != nil {
				for _, l := range listeners {
					l.Close()
				}
			}
		}()
		for _, a := range *direct {
			var lc net.ListenConfig
			l, err := lc.Listen(ctx, "tcp", a)
			if err != nil {
				return fmt.Errorf("listen for ordinary connections: %w", err)
			}
			listeners = append(listeners, l)
		}
		if *socket != "" {
			l, err := handoff.Listen(ctx, handoff.Options{Socket: *socket, Name: *name, Log: log})
			if err != nil {
				return err
			}
			listeners = append(listeners, l)
		}
		return app.Serve(ctx, *name, log, listeners...)
	}
	return cmd
}
