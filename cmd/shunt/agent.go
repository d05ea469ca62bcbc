package main

import (
	"time"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/agent"
	"github.com/shunt-sdn/shunt/agent/config"
	"github.com/shunt-sdn/shunt/internal/logconf"
	"github.com/shunt-sdn/shunt/internal/sysmon"
)

// monitorSlack is for a process whose system calls hardly ever block, and whose
// timers may be late by some milliseconds.
const monitorSlack = 5 * time.Millisecond

func newAgentCommand() *cobra.Command {
	var file, level string
	var check bool
	cmd := &cobra.Command{
		Use:   "agent --config FILE",
		Short: "Run the agent of a dispatcher or server node",
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
			relaxGC()
			if err := sysmon.Relax(monitorSlack); err != nil {
				log.Info("hand-offs will take longer: give the agent CAP_SYS_NICE", "err", err)
			}
			return agent.Run(cmd.Context(), cfg, version(), log)
		},
	}
	cmd.Flags().StringVar(&file, "config", "/etc/shunt/agent.yaml", "configuration `file`")
	cmd.Flags().BoolVar(&check, "check", false, "only check the configuration")
	cmd.Flags().StringVar(&level, "log-level", "", "debug, info, warn or error; instead of the configuration's log.level")
	return cmd
}
