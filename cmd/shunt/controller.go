package main

import (
	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller"
	"github.com/shunt-sdn/shunt/controller/config"
)

func newControllerCommand() *cobra.Command {
	var file, level string
	var check bool
	cmd := &cobra.Command{
		Use:   "controller --config FILE",
		Short: "Run the controller",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(level)
			if err != nil {
				return err
			}
			cfg, err := config.Load(file)
			if err != nil || check {
				return err
			}
			relaxGC()
			return controller.Run(cmd.Context(), cfg, log)
		},
	}
	cmd.Flags().StringVar(&file, "config", "/etc/shunt/controller.yaml", "configuration `file`")
	cmd.Flags().BoolVar(&check, "check", false, "only check the configuration")
	cmd.Flags().StringVar(&level, "log-level", "info", "debug, info, warn or error")
	return cmd
}
