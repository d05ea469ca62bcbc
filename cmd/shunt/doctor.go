package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/doctor"
)

// Where the packages put the configurations.
const (
	agentFile      = "/etc/shunt/agent.yaml"
	controllerFile = "/etc/shunt/controller.yaml"
	ovsDatabase    = "/run/openvswitch/db.sock"
)

// Exit statuses of the doctor.
const (
	exitFailures exitStatus = 1
	exitUsage    exitStatus = 2
)

func newDoctorCommand() *cobra.Command {
	var agent, controller, output string
	var pools []string
	var sw doctor.ControllerOptions
	cmd := &cobra.Command{
		Use:   "doctor [--agent FILE] [--controller FILE]",
		Short: "Check a host and its switch, and say what to change",
		Long: `Check whether this host is fit for the daemons whose configurations are named,
by default those in /etc/shunt: the kernel, sysctls, the data interface and its
routes, certificates, the way to the controller and to other agents; and of a
controller's host its switches, by OpenFlow and, if there is a database of Open
vSwitch, by OVSDB.

Nothing is changed. What the kernel can do is tried in a network namespace that
vanishes. A switch that no controller drives is given a few flows, in a table
that no packet reaches, to see whether it takes them.`,
		Example: `shunt doctor
shunt doctor --agent /etc/shunt/agent.yaml -o json
shunt doctor --controller /etc/shunt/controller.yaml --ovsdb unix:/run/openvswitch/db.sock --bridge br0`,
		RunE: func(cmd *cobra.Command, args []string) error {
			usage := func(format string, args ...any) error {
				fmt.Fprintf(cmd.ErrOrStderr(), "shunt: "+format+"\n", args...)
				return exitUsage
			}
			if len(args) > 0 {
				return usage("doctor takes no argument, but %q is given", args[0])
			}
			if output != "table" && output != "json" {
				return usage("output format %q is unknown; use table or json", output)
			}
			if agent == "" && controller == "" {
				agent, controller = existing(agentFile), existing(controllerFile)
			}
			if agent == "" && controller == "" {
				return usage("there is no configuration in /etc/shunt; name one with --agent or --controller")
			}
			var report doctor.Report
			if agent != "" {
				o := doctor.AgentOptions{File: agent}
				for _, p := range pools {
					prefix, err := netip.ParsePrefix(p)
					if err != nil {
						return usage("--pool %q: write a prefix, for example 172.31.0.0/24", p)
					}
					o.Pools = append(o.Pools, prefix.Masked())
				}
				if c, err := config.Load(controller); controller != "" && err == nil {
					o.Pools = append(o.Pools, c.Pools...)
				}
				report = append(report, doctor.CheckAgent(cmd.Context(), o)...)
			}
			if controller != "" {
				sw.File = controller
				if !cmd.Flags().Changed("ovsdb") && existing(ovsDatabase) != "" {
					sw.OVSDB = "unix:" + ovsDatabase
				}
				report = append(report, doctor.CheckController(cmd.Context(), sw)...)
			}
			if err := report.Print(cmd.OutOrStdout(), output); err != nil {
				return err
			}
			if report.Failed() {
				return exitFailures
			}
			return nil
		},
	}
	cmd.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		fmt.Fprintln(cmd.ErrOrStderr(), "shunt:", err)
		return exitUsage
	})
	f := cmd.Flags()
	f.StringVar(&agent, "agent", "", "configuration `file` of this host's agent")
	f.StringVar(&controller, "controller", "", "configuration `file` of this host's controller")
	f.StringArrayVar(&pools, "pool", nil, "a `prefix` of session addresses, beside those that the controller knows; may be repeated")
	f.StringVar(&sw.Switch, "switch", "", "where to reach the switch directly, such as unix:/run/openvswitch/br0.mgmt: a `target` instead of the configured one")
	f.StringVar(&sw.OVSDB, "ovsdb", "", "Open vSwitch's database, unix:/`path` or tcp:host:port; default unix:/run/openvswitch/db.sock if there is one")
	f.StringVar(&sw.Bridge, "bridge", "", "`name` of the bridge in the database; found by datapath id or ports otherwise")
	f.StringVarP(&output, "output", "o", "table", "json or table")
	return cmd
}

// existing returns the path if there is something, else "".
func existing(path string) string {
	if _, err := os.Stat(path); errors.Is(err, fs.ErrNotExist) {
		return ""
	}
	return path
}
