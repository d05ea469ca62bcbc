package main

import (
	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/lab"
	"github.com/shunt-sdn/shunt/lab/demo"
)

// newLabDemo makes a lab, uses it and removes it.
func newLabDemo() *cobra.Command {
	o := lab.Options{Name: "demo"}
	plan := demo.Standard
	cmd := &cobra.Command{
		Use:   "demo",
		Short: "Make a lab, send it requests, check every octet, report, remove it",
		Args:  cobra.NoArgs,
	}
	f := cmd.Flags()
	f.StringVar(&o.Switch, "switch", lab.SwitchSim, "kind of switch: sim or ovs (Open vSwitch)")
	f.StringVar(&o.Steering, "steering", "auto", "how the switch is told where sessions are: auto, flows or conntrack")
	f.IntVar(&plan.Requests, "requests", plan.Requests, "number of small requests")
	f.Int64Var(&plan.Download, "download", plan.Download, "length of the large download, octets")
	f.Int64Var(&plan.Upload, "upload", plan.Upload, "length of the large upload, octets")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		return demo.Run(ctx, o, plan, cmd.OutOrStdout())
	}
	return cmd
}
