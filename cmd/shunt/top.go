package main

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"time"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller/operator"
)

func newTopCommand() *cobra.Command {
	cmd := policyCommand("top [SERVICE]", "Show live rates, sessions, loads and hand-off latencies, by server and route", cobra.MaximumNArgs(1))
	once := cmd.Flags().Bool("once", false, "print once and end")
	every := cmd.Flags().Duration("interval", time.Second, "how often to look")
	completion(cmd, func(args []string) string {
		if len(args) > 0 {
			return ""
		}
		return "service"
	}, nil)
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		c, err := dial(cmd)
		if err != nil {
			return err
		}
		defer c.Close()
		service := ""
		if len(args) > 0 {
			service = args[0]
		}
		timeout, err := cmd.Flags().GetDuration("timeout")
		if err != nil {
			return err
		}
		if *every < 100*time.Millisecond {
			return fmt.Errorf("--interval %v is too short; at least 100ms", *every)
		}
		return watchTop(cmd, c, service, timeout, *every, *once)
	}
	return cmd
}

// watchTop prints again and again, over what it printed before if that is a
// terminal.
func watchTop(cmd *cobra.Command, c *operator.Client, service string, timeout, every time.Duration, once bool) error {
	out := cmd.OutOrStdout()
	info, err := os.Stdout.Stat()
	clear := !once && out == os.Stdout && err == nil && info.Mode()&os.ModeCharDevice != 0
	tick := time.NewTicker(every)
	defer tick.Stop()
	for {
		ctx, cancel := context.WithTimeout(cmd.Context(), timeout)
		top, err := c.Top(ctx, service)
		cancel()
		if cmd.Context().Err() != nil {
			return nil
		}
		if err != nil {
			return err
		}
		var text bytes.Buffer
		if clear {
			text.WriteString("\x1b[H\x1b[2J")
		}
		if err := operator.Print(&text, cmd.Flags().Lookup("output").Value.String(), top); err != nil {
			return err
		}
		if _, err := out.Write(text.Bytes()); err != nil || once {
			return err
		}
		select {
		case <-cmd.Context().Done():
			return nil
		case <-tick.C:
		}
	}
}
