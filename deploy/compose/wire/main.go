// Command wire is the patch panel of the lab of containers: it joins each
// container to the switch by a veth pair, and then runs the container's
// programs. docs/compose.md says how, and which privileges that takes.
//
// A veth pair has one end in the switch's network namespace and one in the
// container's. Instead of giving somebody the right to enter every namespace of
// the machine (CAP_SYS_ADMIN, the host's process numbers, Docker's socket),
// each container hands a descriptor of its own namespace to the switch's over
// a Unix socket. The kernel then wants CAP_NET_ADMIN of the two, no more.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	root := &cobra.Command{
		Use:           "wire",
		Short:         "Join containers to a switch by veth pairs",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	log := slog.New(slog.NewTextHandler(os.Stderr, nil))
	root.AddCommand(newPanelCommand(log), newPortsCommand(log), newNodeCommand(log), newCheckCommand(), newContentCommand())
	if err := root.ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "wire:", err)
		os.Exit(1)
	}
}

// socketFlag is where the panel listens.
func socketFlag(cmd *cobra.Command) *string {
	return cmd.Flags().String("socket", "/run/wire/panel.sock", "the panel's `socket`")
}

func newPanelCommand(log *slog.Logger) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "panel PORT...",
		Short: "Make veth pairs between this namespace and those that ask",
		Args:  cobra.MinimumNArgs(1),
	}
	socket := socketFlag(cmd)
	cmd.RunE = func(cmd *cobra.Command, ports []string) error {
		p, err := newPanel(*socket, ports, log)
		if err != nil {
			return err
		}
		return p.run(cmd.Context())
	}
	return cmd
}

func newNodeCommand(log *slog.Logger) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "node",
		Short: "Join this container to the switch and run its programs",
		Args:  cobra.NoArgs,
	}
	socket := socketFlag(cmd)
	file := cmd.Flags().String("config", "/etc/shunt/node.yaml", "what to join and run: a `file`")
	cmd.RunE = func(cmd *cobra.Command, _ []string) error {
		n, err := loadNode(*file)
		if err != nil {
			return err
		}
		ctx := cmd.Context()
		cord, err := plug(ctx, *socket, n.Link)
		if err != nil {
			return err
		}
		defer cord.Close()
		if err := n.Link.configure(); err != nil {
			return err
		}
		log.Info("joined to the switch", "port", n.Link.Port, "addresses", n.Link.Addresses)
		err = n.run(ctx, cord, log)
		if errors.Is(err, context.Canceled) {
			return nil
		}
		return err
	}
	return cmd
}
