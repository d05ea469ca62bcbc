package main

import (
	"context"
	"errors"
	"fmt"
	"net"
	"time"

	"github.com/spf13/cobra"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"
	healthv1 "google.golang.org/grpc/health/grpc_health_v1"

	"github.com/shunt-sdn/shunt/agent/config"
)

// newCheckCommand is what containers' health checks run.
func newCheckCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "check panel|agent",
		Short: "Tell whether the panel, or this container's agent, does its work",
		Args:  cobra.ExactArgs(1),
	}
	socket := socketFlag(cmd)
	file := cmd.Flags().String("config", "/etc/shunt/agent.yaml", "the agent's configuration `file`")
	cmd.RunE = func(cmd *cobra.Command, args []string) error {
		ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
		defer cancel()
		switch args[0] {
		case "panel":
			var d net.Dialer
			c, err := d.DialContext(ctx, "unixpacket", *socket)
			if err != nil {
				return err
			}
			return c.Close()
		case "agent":
			return checkAgent(ctx, *file)
		}
		return errors.New("say what to check: panel or agent")
	}
	return cmd
}

// checkAgent asks the agent that has the configuration how it is.
func checkAgent(ctx context.Context, file string) error {
	cfg, err := config.Load(file)
	if err != nil {
		return err
	}
	trust := insecure.NewCredentials()
	if !cfg.Insecure {
		host, _, err := net.SplitHostPort(cfg.Advertise)
		if err != nil {
			return err
		}
		t, err := cfg.TLS.Client(host)
		if err != nil {
			return err
		}
		trust = credentials.NewTLS(t)
	}
	conn, err := grpc.NewClient("passthrough:///"+cfg.Advertise, grpc.WithTransportCredentials(trust))
	if err != nil {
		return err
	}
	defer conn.Close()
	r, err := healthv1.NewHealthClient(conn).Check(ctx, &healthv1.HealthCheckRequest{})
	if err != nil {
		return fmt.Errorf("ask the agent at %s: %w", cfg.Advertise, err)
	}
	if r.GetStatus() != healthv1.HealthCheckResponse_SERVING {
		return fmt.Errorf("the agent at %s is %s", cfg.Advertise, r.GetStatus())
	}
	return nil
}
