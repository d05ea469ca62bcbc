// Command shunt is everything of Shunt in one binary: the controller, the
// agent, the simulated switch, the lab, and the operator's verbs.
package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/internal/sdnotify"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	// Nobody hears this but a service manager.
	context.AfterFunc(ctx, func() { _ = sdnotify.Stopping() })
	err := newRootCommand().ExecuteContext(ctx)
	stop()
	var status exitStatus
	var wrong *configError
	switch {
	case errors.As(err, &wrong):
		fmt.Fprintln(os.Stderr, "shunt:", err)
		os.Exit(exitConfig)
	case errors.As(err, &status):
		os.Exit(int(status))
	case err != nil:
		fmt.Fprintln(os.Stderr, "shunt:", err)
		os.Exit(1)
	}
}

// exitStatus ends the program with another program's status and no message.
type exitStatus int

func (s exitStatus) Error() string { return fmt.Sprintf("exit status %d", int(s)) }

// exitConfig is the status of a daemon whose configuration is wrong: EX_CONFIG
// of sysexits.h. Service managers need not try again.
const exitConfig = 78

// configError is what is wrong with a daemon's configuration.
type configError struct{ error }

func (e *configError) Unwrap() error { return e.error }

// loadConfig reads a daemon's configuration file.
func loadConfig[C any](load func(string) (C, error), file string) (C, error) {
	c, err := load(file)
	if err != nil {
		err = &configError{err}
	}
	return c, err
}

func newRootCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "shunt",
		Short:         "Dispatch HTTP requests at layer 7, then leave the path",
		Version:       version(),
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(newControllerCommand(), newAgentCommand(), newSwitchsimCommand(), newLabCommand(), newDoctorCommand(), newManCommand())
	root.AddCommand(newOperatorCommands()...)
	root.AddCommand(newPolicyCommands()...)
	return root
}

// stamp is the version that the packages are built with, by -X.
var stamp string

func version() string {
	if stamp != "" {
		return stamp
	}
	if info, ok := debug.ReadBuildInfo(); ok && info.Main.Version != "" {
		return info.Main.Version
	}
	return "(devel)"
}

// logger returns the daemons' logger: text on standard error.
func logger(level string) (*slog.Logger, error) {
	var l slog.Level
	if err := l.UnmarshalText([]byte(level)); err != nil {
		return nil, fmt.Errorf("--log-level %q: it is debug, info, warn or error", level)
	}
	return slog.New(slog.NewTextHandler(os.Stderr, &slog.HandlerOptions{Level: l})), nil
}
