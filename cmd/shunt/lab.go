package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"os/exec"
	"os/signal"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
)

// newLabCommand makes and uses clusters on this machine.
func newLabCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "lab",
		Short: "Make and use a whole cluster on this machine, in network namespaces",
		Long: `A lab is a cluster on this machine: clients, dispatchers, servers, a switch and
a controller, each in a network namespace, with real web servers behind a
virtual IP. It needs root and belongs to the machine: it stays until "lab down".`,
		Args: cobra.NoArgs,
	}
	cmd.AddCommand(newLabUp(), newLabDown(), newLabList(), newLabInfo(), newLabExec(), newLabKill(), newLabStart(), newLabDemo(), newLabApp())
	return cmd
}

// labName adds the flag that names the lab: the one that the command runs in,
// else the usual one.
func labName(cmd *cobra.Command) *string {
	usual := lab.DefaultName
	if env := os.Getenv("SHUNT_LAB"); env != "" {
		usual = env
	}
	return cmd.Flags().String("name", usual, "the lab's name; $SHUNT_LAB if set")
}

func newLabUp() *cobra.Command {
	var o lab.Options
	var rate string
	cmd := &cobra.Command{
		Use:   "up",
		Short: "Make a lab; done when requests to its service succeed",
		Args:  cobra.NoArgs,
	}
	name := labName(cmd)
	f := cmd.Flags()
	f.StringVar(&o.Switch, "switch", lab.SwitchSim, "kind of switch: sim or ovs (Open vSwitch)")
	f.StringVar(&o.Steering, "steering", "auto", "how the switch is told where sessions are: auto, flows or conntrack")
	f.IntVar(&o.Clients, "clients", 1, "number of clients")
	f.IntVar(&o.Dispatchers, "dispatchers", 1, "number of dispatchers")
	f.IntVar(&o.Servers, "servers", 3, "number of servers")
	f.BoolVar(&o.IPv6, "ipv6", false, "IPv6 beside IPv4")
	f.StringVar(&rate, "nic-rate", "", "rate of every client's, dispatcher's and server's NIC, each way, such as 200mbit; none by default")
	apps := f.StringArray("app", []string{lab.AppBuiltin}, "the servers' web server: "+strings.Join(append([]string{lab.AppBuiltin}, lab.RealServers()...), ", ")+
		"; repeated as SERVICE=APP[:ATTACH], further ones for services on ports 81, 82, …")
	f.StringVar(&o.Attach, "attach", "", "how sessions reach the (first) web server: listener or relay; preload or relay for one that is not built in; by default the first")
	f.StringVar(&o.Preload, "preload", "", "path of libshunt.so; by default beside this program, or preload/libshunt.so")
	f.BoolVar(&o.TLS, "tls", false, "mutual TLS between the daemons")
	cmd.RunE = func(cmd *cobra.Command, _ []string) (err error) {
		o.Name = *name
		if err := o.ParseApplications(*apps); err != nil {
			return err
		}
		if o.NICRate, err = lab.ParseRate(rate); err != nil {
			return err
		}
		ctx, stop := untilSignal(cmd.Context())
		defer stop()
		l, err := lab.Up(ctx, o)
		if err != nil {
			return err
		}
		s := l.Service()
		fmt.Fprintf(cmd.OutOrStdout(), "lab %q is up: try\n\tshunt lab exec --name %s client1 -- curl http://%s/whoami\n", l.Name(), l.Name(), s.VIP)
		return nil
	}
	return cmd
}

func newLabDown() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "down",
		Short: "Remove a lab, whatever is left of it",
		Args:  cobra.NoArgs,
	}
	name := labName(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		found, err := lab.Remove(cmd.Context(), *name)
		if err == nil && !found {
			fmt.Fprintf(cmd.ErrOrStderr(), "there is no lab %q\n", *name)
		}
		return err
	}
	return cmd
}

func newLabList() *cobra.Command {
	cmd := &cobra.Command{Use: "list", Short: "List the labs of this machine", Args: cobra.NoArgs}
	output := labOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		names, err := lab.List()
		if err != nil {
			return err
		}
		infos := []lab.Info{}
		for _, name := range names {
			l, err := lab.Load(name)
			if err != nil {
				fmt.Fprintln(cmd.ErrOrStderr(), err)
				continue
			}
			infos = append(infos, l.Info())
		}
		return printLab(cmd.OutOrStdout(), *output, infos, func(w io.Writer) {
			fmt.Fprintln(w, "NAME\tSWITCH\tSTEERING\tHOSTS\tSERVICE")
			for _, i := range infos {
				fmt.Fprintf(w, "%s\t%s\t%s\t%d\t%s:%d\n", i.Name, i.Switch.Kind, i.Switch.Steering, len(i.Hosts), i.Service.VIP, i.Service.Port)
			}
		})
	}
	return cmd
}

func newLabInfo() *cobra.Command {
	cmd := &cobra.Command{Use: "info", Short: "Describe a lab", Args: cobra.NoArgs}
	name, output := labName(cmd), labOutput(cmd)
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		l, err := lab.Load(*name)
		if err != nil {
			return err
		}
		i := l.Info()
		return printLab(cmd.OutOrStdout(), *output, i, func(w io.Writer) {
			fmt.Fprintf(w, "service\t%s", i.Service.VIP)
			if i.Service.VIP6.IsValid() {
				fmt.Fprintf(w, ", %s", i.Service.VIP6)
			}
			fmt.Fprintf(w, " port %d\n", i.Service.Port)
			for _, a := range i.Applications {
				fmt.Fprintf(w, "application\t%s port %d: %s by %s\n", a.Service, a.Port, a.App, a.Attach)
			}
			fmt.Fprintf(w, "switch\t%s, steering %s, OpenFlow at %s\noperator\t%s\nlogs\t%s\n\n",
				i.Switch.Kind, i.Switch.Steering, i.Switch.OpenFlow, i.Operator, i.Logs)
			fmt.Fprintln(w, "HOST\tNETNS\tADDRESSES\tDAEMONS")
			for _, h := range i.Hosts {
				var addresses, daemons []string
				for _, a := range h.Addresses {
					addresses = append(addresses, a.String())
				}
				for _, d := range slices.Sorted(maps.Keys(h.PIDs)) {
					daemons = append(daemons, fmt.Sprintf("%s (%d)", d, h.PIDs[d]))
				}
				fmt.Fprintf(w, "%s\t%s\t%s\t%s\n", h.Name, h.Netns, strings.Join(addresses, ", "), strings.Join(daemons, ", "))
			}
		})
	}
	return cmd
}

func newLabExec() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "exec HOST -- CMD [ARG…]",
		Short: "Run a command on a host; its exit status is this command's",
		Args:  cobra.MinimumNArgs(2),
	}
	name := labName(cmd)
	cmd.Flags().SetInterspersed(false) // what follows HOST is the command's
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		host, command := args[0], args[1:]
		if command[0] == "--" {
			command = command[1:]
		}
		if len(command) == 0 {
			return errors.New("no command: shunt lab exec HOST -- CMD")
		}
		l, err := lab.Load(*name)
		if err != nil {
			return err
		}
		err = l.Replace(host, command...)
		// As shells have it.
		if errors.Is(err, exec.ErrNotFound) || errors.Is(err, os.ErrNotExist) {
			fmt.Fprintln(os.Stderr, "shunt:", err)
			os.Exit(127)
		}
		if errors.Is(err, os.ErrPermission) {
			fmt.Fprintln(os.Stderr, "shunt:", err)
			os.Exit(126)
		}
		return err
	}
	return cmd
}

func newLabKill() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "kill HOST [DAEMON]",
		Short: "Send a signal to a daemon (without DAEMON: the host's only one, or its agent)",
		Args:  cobra.RangeArgs(1, 2),
	}
	name := labName(cmd)
	signal := cmd.Flags().String("signal", "KILL", "the signal's name")
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		number := unix.SignalNum("SIG" + strings.TrimPrefix(strings.ToUpper(*signal), "SIG"))
		if number == 0 {
			return fmt.Errorf("signal %q: there is none of this name", *signal)
		}
		l, daemon, err := labDaemon(*name, args)
		if err != nil {
			return err
		}
		return l.Signal(args[0], daemon, number)
	}
	return cmd
}

func newLabStart() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "start HOST [DAEMON]",
		Short: "Start a daemon that has ended (without DAEMON: the host's only one, or its agent)",
		Args:  cobra.RangeArgs(1, 2),
	}
	name := labName(cmd)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		l, daemon, err := labDaemon(*name, args)
		if err != nil {
			return err
		}
		return l.Start(args[0], daemon)
	}
	return cmd
}

// labDaemon loads a lab and completes HOST [DAEMON].
func labDaemon(name string, args []string) (*lab.Lab, string, error) {
	l, err := lab.Load(name)
	if err != nil {
		return nil, "", err
	}
	if len(args) > 1 {
		return l, args[1], nil
	}
	daemon, err := l.MainDaemon(args[0])
	return l, daemon, err
}

func labOutput(cmd *cobra.Command) *string {
	return cmd.Flags().StringP("output", "o", "table", "table or json")
}

// printLab writes v as JSON, or as the table that draw writes.
func printLab(w io.Writer, format string, v any, draw func(io.Writer)) error {
	switch format {
	case "json":
		e := json.NewEncoder(w)
		e.SetIndent("", "  ")
		return e.Encode(v)
	case "table":
		t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
		draw(t)
		return t.Flush()
	}
	return fmt.Errorf("output %q: use table or json", format)
}

// untilSignal returns a context that ends when the program is asked to.
func untilSignal(ctx context.Context) (context.Context, context.CancelFunc) {
	return signal.NotifyContext(ctx, unix.SIGINT, unix.SIGTERM, unix.SIGHUP)
}
