package main

import (
	"context"
	"errors"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller/operator"
)

func newGetCommand() *cobra.Command {
	cmd := policyCommand("get services|routes|pools|servers [NAME...]", "List what the dispatch policy has, and how servers are", cobra.MinimumNArgs(1))
	cmd.Flags().Lookup("output").Usage = "json, yaml or table"
	completion(cmd, first(ofKind("services", "routes", "pools", "servers")), second(ofKind("services", "routes", "pools", "servers")))
	return does(cmd, func(ctx context.Context, c *operator.Client, args []string) error {
		kind, names, err := kindOf(args)
		if err != nil {
			return err
		}
		answer, err := c.Get(ctx, kind, names...)
		if err != nil {
			return err
		}
		return operator.PrintPolicy(cmd.OutOrStdout(), cmd.Flags().Lookup("output").Value.String(), answer)
	})
}

func newDescribeCommand() *cobra.Command {
	cmd := policyCommand("describe service|route|pool|server NAME", "Tell everything about one of them", cobra.RangeArgs(1, 2))
	completion(cmd, first(ofKind("service", "route", "pool", "server")), second(ofKind("service", "route", "pool", "server")))
	return does(cmd, func(ctx context.Context, c *operator.Client, args []string) error {
		kind, names, err := kindOf(args)
		if err != nil {
			return err
		}
		if len(names) != 1 {
			return errors.New("name one to describe; shunt get lists them")
		}
		answer, err := c.Describe(ctx, kind, names[0])
		if err != nil {
			return err
		}
		return operator.Print(cmd.OutOrStdout(), cmd.Flags().Lookup("output").Value.String(), answer)
	})
}
