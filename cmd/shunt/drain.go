package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller/operator"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func newDrainCommand() *cobra.Command {
	cmd := policyCommand("drain SERVER", "Let a server take no new requests, and tell how many sessions it still has", cobra.ExactArgs(1))
	wait := cmd.Flags().Bool("wait", false, "wait until no session is left")
	f := cmd.Flags().Lookup("timeout")
	f.Usage = "how long to wait for the answer, with --wait for the last session's end; the drain goes on afterwards"
	completion(cmd, onlyServer, nil)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c, err := dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		timeout, err := cmd.Flags().GetDuration("timeout")
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		if !*wait || f.Changed {
			var cancel context.CancelFunc
			ctx, cancel = context.WithTimeout(ctx, timeout)
			defer cancel()
		}
		return withStatus(cmd.ErrOrStderr(), drain(ctx, cmd, c, args[0], *wait, timeout))
	}
	return cmd
}

// drain begins a drain and prints its progress; with wait until it has done.
func drain(ctx context.Context, cmd *cobra.Command, c *operator.Client, server string, wait bool, timeout time.Duration) error {
	var last *shuntv1.DrainResponse
	err := c.Drain(ctx, &shuntv1.DrainRequest{Server: server}, func(r *shuntv1.DrainResponse) bool {
		last = r
		switch {
		case r.Done:
			fmt.Fprintf(cmd.OutOrStdout(), "%s is drained\n", server)
		case r.Moved > 0:
			fmt.Fprintf(cmd.OutOrStdout(), "%s drains: %d sessions left, %d moved\n", server, r.Sessions, r.Moved)
		default:
			fmt.Fprintf(cmd.OutOrStdout(), "%s drains: %d sessions left\n", server, r.Sessions)
		}
		return wait
	})
	if last != nil && errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s drains, and has %d sessions after %v: %w; it goes on, watch it with shunt get servers", server, last.Sessions, timeout, errTimeout)
	}
	return err
}

func newUndrainCommand() *cobra.Command {
	cmd := policyCommand("undrain SERVER", "Let a server take new requests again", cobra.ExactArgs(1))
	completion(cmd, onlyServer, nil)
	return does(cmd, func(ctx context.Context, c *operator.Client, args []string) error {
		err := c.Drain(ctx, &shuntv1.DrainRequest{Server: args[0], Undo: true}, func(*shuntv1.DrainResponse) bool { return true })
		if err == nil {
			fmt.Fprintf(cmd.OutOrStdout(), "%s takes new requests\n", args[0])
		}
		return err
	})
}

func onlyServer(args []string) string {
	if len(args) > 0 {
		return ""
	}
	return "server"
}
