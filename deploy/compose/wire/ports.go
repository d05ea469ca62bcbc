package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os/exec"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/vishvananda/netlink"
	"golang.org/x/sync/errgroup"
	"golang.org/x/sys/unix"
)

// newPortsCommand keeps the bridge's ports the links that there are. Open
// vSwitch's userspace datapath does not notice that a port's device was replaced
// by another of the same name: it goes on with the descriptor of the old one.
func newPortsCommand(log *slog.Logger) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "ports BRIDGE PORT... -- COMMAND...",
		Short: "Run a switch and give its bridge those of the ports that are there",
	}
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		dash := cmd.ArgsLenAtDash()
		if dash < 2 || dash == len(args) {
			return errors.New("say bridge, ports and, after --, the switch's command")
		}
		b := &bridge{name: args[0], ports: args[1:dash], log: log}
		g, ctx := errgroup.WithContext(cmd.Context())
		g.Go(func() error { return program{Command: args[dash:]}.run(ctx, log) })
		g.Go(func() error { return b.follow(ctx) })
		if err := g.Wait(); !errors.Is(err, context.Canceled) {
			return err
		}
		return nil
	}
	return cmd
}

// bridge is one of Open vSwitch's.
type bridge struct {
	name  string
	ports []string // that it may have
	log   *slog.Logger
}

// follow adds and removes ports as links come and go, until the context ends.
func (b *bridge) follow(ctx context.Context) error {
	updates := make(chan netlink.LinkUpdate)
	// The library stops reading when done is closed and then closes updates.
	if err := netlink.LinkSubscribeWithOptions(updates, ctx.Done(), netlink.LinkSubscribeOptions{ListExisting: true}); err != nil {
		return fmt.Errorf("watch the links: %w", err)
	}
	there := map[string]int{} // index of the device that the bridge has
	for u := range updates {
		name, index := u.Attrs().Name, u.Attrs().Index
		had, found := there[name]
		switch {
		case !slices.Contains(b.ports, name) || ctx.Err() != nil:
		case u.Header.Type == unix.RTM_DELLINK && found && had == index:
			delete(there, name)
			b.vsctl(ctx, "del-port", b.name, name)
		case u.Header.Type == unix.RTM_NEWLINK && (!found || had != index):
			if found {
				b.vsctl(ctx, "del-port", b.name, name)
			}
			there[name] = index
			// Without linux-noop the switch would set a queueing discipline.
			b.vsctl(ctx, "add-port", b.name, name, "--", "--id=@q", "create", "QoS", "type=linux-noop", "--", "set", "Port", name, "qos=@q")
		}
	}
	return ctx.Err()
}

// vsctl runs a command, which ends when the switch has followed it.
func (b *bridge) vsctl(ctx context.Context, args ...string) {
	out, err := exec.CommandContext(ctx, "ovs-vsctl", append([]string{"--timeout=10"}, args...)...).CombinedOutput()
	if err != nil && ctx.Err() == nil {
		b.log.Warn("ovs-vsctl "+strings.Join(args[:3], " "), "err", err, "output", string(out))
		return
	}
	b.log.Info("ovs-vsctl " + strings.Join(args[:3], " "))
}
