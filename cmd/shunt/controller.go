package main

import (
	"context"
	"time"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller"
	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/internal/logconf"
)

func newControllerCommand() *cobra.Command {
	var file, level string
	var check, cleanup bool
	var wait time.Duration
	cmd := &cobra.Command{
		Use:   "controller --config FILE",
		Short: "Run the controller",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			cfg, err := loadConfig(config.Load, file)
			if err != nil || check {
				return err
			}
			log, err := daemonLog(cmd.Context(), level, cfg.Log, func() (logconf.Config, error) {
				c, err := config.Load(file)
				return c.Log, err
			})
			if err != nil {
				return err
			}
			if cleanup {
				ctx, cancel := context.WithTimeout(cmd.Context(), wait)
				defer cancel()
				return controller.Cleanup(ctx, cfg, log)
			}
			relaxGC()
			return controller.Run(cmd.Context(), cfg, version(), log)
		},
	}
	cmd.Flags().StringVar(&file, "config", "/etc/shunt/controller.yaml", "configuration `file`")
	cmd.Flags().BoolVar(&check, "check", false, "only check the configuration")
	cmd.Flags().BoolVar(&cleanup, "cleanup", false, "remove Shunt's flows from the switches, and nothing else, instead of running")
	cmd.Flags().DurationVar(&wait, "cleanup-timeout", time.Minute, "how long --cleanup waits for switches")
	cmd.Flags().StringVar(&level, "log-level", "", "debug, info, warn or error; instead of the configuration's log.level")
	return cmd
}
