package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller/operator"
	"github.com/shunt-sdn/shunt/internal/policyyaml"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Exit statuses of the policy's verbs beside 0 and 1.
const (
	exitConflict = 2 // changed meanwhile: read it again and repeat
	exitTimeout  = 3 // what was to be waited for did not happen in time
)

// newPolicyCommands returns the verbs of the dispatch policy.
func newPolicyCommands() []*cobra.Command {
	return []*cobra.Command{
		newApplyCommand(), newImportCommand(), newExportCommand(), newGetCommand(), newDescribeCommand(), newDeleteCommand(),
		newExplainCommand(), newTopCommand(), newDrainCommand(), newUndrainCommand(),
	}
}

// policyVerb is what a verb does with a controller.
type policyVerb func(ctx context.Context, c *operator.Client, args []string) error

// policyCommand returns a verb with the flags that all operators' verbs have.
func policyCommand(use, short string, args cobra.PositionalArgs) *cobra.Command {
	cmd := operatorCommand(use, short, nil)
	cmd.Args = args
	return cmd
}

// does has the command do v, with --timeout.
func does(cmd *cobra.Command, v policyVerb) *cobra.Command {
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		err := reach(cmd, func(ctx context.Context, c *operator.Client) error { return v(ctx, c, args) })
		return withStatus(cmd.ErrOrStderr(), err)
	}
	return cmd
}

// withStatus gives errors that scripts want to tell apart a status of their own.
func withStatus(w io.Writer, err error) error {
	status := 0
	switch {
	case errors.Is(err, operator.ErrConflict):
		status = exitConflict
	case errors.Is(err, errTimeout):
		status = exitTimeout
	default:
		return err
	}
	fmt.Fprintln(w, "shunt:", err)
	return exitStatus(status)
}

// errTimeout says that a wait ended without what was waited for.
var errTimeout = errors.New("not in time")

// kinds are the words for resources, by all names that are understood.
var kinds = map[string]string{
	"service": "service", "services": "service", "svc": "service",
	"route": "route", "routes": "route",
	"pool": "pool", "pools": "pool",
	"server": "server", "servers": "server",
}

// kindOf reads a kind, or "kind/name" with the name behind it.
func kindOf(args []string) (kind string, names []string, err error) {
	word, names := args[0], args[1:]
	if k, n, ok := strings.Cut(word, "/"); ok {
		word, names = k, append([]string{n}, names...)
	}
	kind, ok := kinds[word]
	if !ok {
		return "", nil, fmt.Errorf("%q is no kind of resource: write services, routes, pools or servers", word)
	}
	return kind, names, nil
}

var resourceKinds = map[string]shuntv1.ResourceKind{
	"service": shuntv1.ResourceKind_RESOURCE_KIND_SERVICE,
	"pool":    shuntv1.ResourceKind_RESOURCE_KIND_POOL,
	"server":  shuntv1.ResourceKind_RESOURCE_KIND_SERVER,
}

// readPolicy reads YAML files; - is the standard input.
func readPolicy(cmd *cobra.Command, files []string) (*policyyaml.Document, error) {
	var sources []policyyaml.Source
	for _, f := range files {
		s := policyyaml.Source{Name: f}
		var err error
		if f == "-" {
			s.Name = "standard input"
			s.Data, err = io.ReadAll(io.LimitReader(cmd.InOrStdin(), policyyaml.MaxBytes+1))
		} else {
			s.Data, err = os.ReadFile(f)
		}
		if err != nil {
			return nil, fmt.Errorf("read the policy: %w", err)
		}
		sources = append(sources, s)
	}
	return policyyaml.Read(sources...)
}

// completion has the shell complete the names of resources of a kind, which
// the controller is asked for.
func completion(cmd *cobra.Command, kind func(args []string) string, word func(args []string) []string) {
	cmd.ValidArgsFunction = func(_ *cobra.Command, args []string, begun string) ([]string, cobra.ShellCompDirective) {
		var out []string
		if word != nil {
			out = word(args)
		}
		if k := kind(args); k != "" {
			ctx, cancel := context.WithTimeout(cmd.Context(), 2*time.Second)
			defer cancel()
			names, err := completions(ctx, cmd, k)
			if err != nil {
				return nil, cobra.ShellCompDirectiveError
			}
			out = append(out, names...)
		}
		return out, cobra.ShellCompDirectiveNoFileComp
	}
}

func completions(ctx context.Context, cmd *cobra.Command, kind string) (names []string, err error) {
	c, err := dial(cmd)
	if err != nil {
		return nil, err
	}
	defer c.Close()
	return c.Names(ctx, kind)
}

// ofKind completes "KIND NAME…".
func ofKind(allowed ...string) (kind func([]string) string, word func([]string) []string) {
	kind = func(args []string) string {
		if len(args) == 0 {
			return ""
		}
		return kinds[args[0]]
	}
	word = func(args []string) []string {
		if len(args) == 0 {
			return allowed
		}
		return nil
	}
	return kind, word
}
