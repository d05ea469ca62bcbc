package main

import (
	"cmp"
	"context"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller/operator"
)

// newOperatorCommands returns the verbs that ask a controller.
func newOperatorCommands() []*cobra.Command {
	handoffs := operatorCommand("handoffs", "List the latest hand-offs, newest first", nil)
	limit := handoffs.Flags().Uint32("limit", 100, "how many at most, up to 10000")
	handoffs.RunE = ask(handoffs, func(ctx context.Context, c *operator.Client) (operator.Answer, error) {
		return c.Handoffs(ctx, *limit)
	})
	return []*cobra.Command{
		operatorCommand("status", "Sum up hand-offs, sessions, switches and nodes",
			func(ctx context.Context, c *operator.Client) (operator.Answer, error) { return c.Status(ctx) }),
		operatorCommand("services", "List services, their virtual IPs and session addresses",
			func(ctx context.Context, c *operator.Client) (operator.Answer, error) { return c.Services(ctx) }),
		operatorCommand("sessions", "List sessions: who holds each and how its packets get there",
			func(ctx context.Context, c *operator.Client) (operator.Answer, error) { return c.Sessions(ctx) }),
		handoffs,
		operatorCommand("nodes", "List dispatchers and servers",
			func(ctx context.Context, c *operator.Client) (operator.Answer, error) { return c.Nodes(ctx) }),
		operatorCommand("flows", "List Shunt's flows in the switches",
			func(ctx context.Context, c *operator.Client) (operator.Answer, error) { return c.Flows(ctx) }),
	}
}

// question asks a controller one thing.
type question func(context.Context, *operator.Client) (operator.Answer, error)

// operatorCommand returns a verb with the flags that all of them have.
func operatorCommand(verb, short string, q question) *cobra.Command {
	cmd := &cobra.Command{Use: verb, Short: short, Args: cobra.NoArgs}
	f := cmd.Flags()
	f.StringP("output", "o", "table", "json or table")
	f.String("controller", cmp.Or(os.Getenv("SHUNT_CONTROLLER"), operator.DefaultAddress),
		"the controller's `address`, unix:/path or host:port; default from SHUNT_CONTROLLER")
	f.String("tls-cert", os.Getenv("SHUNT_TLS_CERT"), "`file` of this operator's certificate; default from SHUNT_TLS_CERT")
	f.String("tls-key", os.Getenv("SHUNT_TLS_KEY"), "`file` of its key; default from SHUNT_TLS_KEY")
	f.String("tls-ca", os.Getenv("SHUNT_TLS_CA"), "`file` of the cluster's certificate authority; default from SHUNT_TLS_CA")
	f.Duration("timeout", 10*time.Second, "how long to wait for the answer")
	cmd.RunE = ask(cmd, q)
	return cmd
}

// ask returns what runs a verb: reach the controller, ask, print.
func ask(cmd *cobra.Command, q question) func(*cobra.Command, []string) error {
	return func(*cobra.Command, []string) error {
		return reach(cmd, func(ctx context.Context, c *operator.Client) error {
			answer, err := q(ctx, c)
			if err != nil {
				return err
			}
			return operator.Print(cmd.OutOrStdout(), cmd.Flags().Lookup("output").Value.String(), answer)
		})
	}
}

// reach calls f with the controller that the flags name, for up to --timeout.
func reach(cmd *cobra.Command, f func(context.Context, *operator.Client) error) error {
	timeout, err := cmd.Flags().GetDuration("timeout")
	if err != nil {
		return err
	}
	c, err := dial(cmd)
	if err != nil {
		return err
	}
	defer c.Close()
	ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
	defer cancel()
	return f(ctx, c)
}

// dial returns a client of the controller that the flags name.
func dial(cmd *cobra.Command) (*operator.Client, error) {
	text := func(name string) string { return cmd.Flags().Lookup(name).Value.String() }
	target := operator.Target{Address: text("controller")}
	target.TLS.Cert, target.TLS.Key, target.TLS.CA = text("tls-cert"), text("tls-key"), text("tls-ca")
	return operator.Dial(target)
}
