package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller"
	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/operator"
	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/internal/policyyaml"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// change is how a change of the policy is made and shown.
type change struct {
	dryRun, prune, diff, wait bool
}

func newApplyCommand() *cobra.Command {
	cmd := policyCommand("apply -f FILE...", "Change the dispatch policy to what files say, all or nothing", cobra.NoArgs)
	files := cmd.Flags().StringArrayP("filename", "f", nil, "YAML `file`, - for the standard input; may be repeated")
	var how change
	cmd.Flags().BoolVar(&how.dryRun, "dry-run", false, "only check, and show what would change")
	cmd.Flags().BoolVar(&how.prune, "prune", false, "delete what is stored and not in the files")
	cmd.Flags().BoolVar(&how.diff, "diff", false, "show the difference of each resource")
	cmd.Flags().BoolVar(&how.wait, "wait", false, "wait until every dispatcher that is connected, or was when the controller last ran, applies it, up to --timeout")
	cmd.MarkFlagRequired("filename")
	cmd.MarkFlagFilename("filename", "yaml", "yml")
	return does(cmd, func(ctx context.Context, c *operator.Client, _ []string) error {
		d, err := readPolicy(cmd, *files)
		if err != nil {
			return err
		}
		return apply(ctx, cmd, c, d, how)
	})
}

func newImportCommand() *cobra.Command {
	cmd := policyCommand("import FILE", "Replace the whole dispatch policy with an exported one, and restore its leases", cobra.ExactArgs(1))
	how := change{prune: true}
	cmd.Flags().BoolVar(&how.dryRun, "dry-run", false, "only check, and show what would change")
	cmd.Flags().BoolVar(&how.diff, "diff", false, "show the difference of each resource")
	cmd.Flags().BoolVar(&how.wait, "wait", false, "wait until every dispatcher that is connected, or was when the controller last ran, applies it, up to --timeout")
	stopped := cmd.Flags().String("stopped", "", "write into the database of a controller that does not run; its configuration `file`")
	cmd.MarkFlagFilename("stopped", "yaml", "yml")
	cmd.MarkFlagsMutuallyExclusive("stopped", "wait")
	does(cmd, func(ctx context.Context, c *operator.Client, args []string) error {
		d, err := readPolicy(cmd, args)
		if err != nil {
			return err
		}
		return apply(ctx, cmd, c, d, how)
	})
	running := cmd.RunE
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		if *stopped == "" {
			return running(cmd, args)
		}
		return importStopped(cmd, *stopped, args, how)
	}
	return cmd
}

// importStopped is import without a controller.
func importStopped(cmd *cobra.Command, path string, args []string, how change) error {
	cfg, err := config.Load(path)
	if err != nil {
		return err
	}
	d, err := readPolicy(cmd, args)
	if err != nil {
		return err
	}
	r, err := controller.Import(cmd.Context(), cfg, &shuntv1.ApplyRequest{Policy: d.Policy, DryRun: how.dryRun, Prune: true}, slog.New(slog.DiscardHandler))
	if err != nil {
		var invalid *policystore.Invalid
		if errors.As(err, &invalid) {
			err = located(d, &operator.Invalid{Faults: invalid.Faults})
		}
		return err
	}
	printChanges(cmd.OutOrStdout(), r, how)
	return nil
}

// apply sends a policy and prints what came of it.
func apply(ctx context.Context, cmd *cobra.Command, c *operator.Client, d *policyyaml.Document, how change) error {
	r, err := c.Apply(ctx, &shuntv1.ApplyRequest{Policy: d.Policy, DryRun: how.dryRun, Prune: how.prune})
	if err != nil {
		return located(d, err)
	}
	for _, w := range r.Warnings {
		fmt.Fprintln(cmd.ErrOrStderr(), "warning:", placed(d, w))
	}
	printChanges(cmd.OutOrStdout(), r, how)
	if !how.wait || how.dryRun {
		return nil
	}
	return heeded(ctx, c, r.Revision)
}

// located says in which line of the files the mistakes are that the controller
// found. Those in what is stored already have no line.
func located(d *policyyaml.Document, err error) error {
	var invalid *operator.Invalid
	if !errors.As(err, &invalid) {
		return err
	}
	var here, elsewhere fault.List
	for _, f := range invalid.Faults {
		if strings.HasPrefix(f.Path, "stored ") || f.Path == "" {
			elsewhere = append(elsewhere, f)
		} else {
			here = append(here, f)
		}
	}
	return errors.Join(d.Locate(here.Err()), elsewhere.Err())
}

// placed is a warning with the place of its field, if the files have it.
func placed(d *policyyaml.Document, warning string) string {
	path, what, ok := strings.Cut(warning, ": ")
	if !ok || strings.HasPrefix(path, "stored ") || strings.Contains(path, " ") {
		return warning
	}
	return d.Locate(fault.List{{Path: path, What: what}}).Error()
}

func printChanges(w io.Writer, r *shuntv1.ApplyResponse, how change) {
	word := func(k shuntv1.ChangeKind) string {
		word := strings.ToLower(strings.TrimPrefix(k.String(), "CHANGE_KIND_"))
		if how.dryRun {
			word += " (dry run)"
		}
		return word
	}
	for _, x := range r.Changes {
		kind := strings.ToLower(strings.TrimPrefix(x.Kind.String(), "RESOURCE_KIND_"))
		fmt.Fprintf(w, "%s/%s %s\n", kind, x.Name, word(x.Change))
		if how.diff {
			fmt.Fprint(w, x.Diff)
		}
	}
	for _, x := range r.Leases {
		before := ""
		if x.Before != "" {
			before = ", was " + x.Before
		}
		fmt.Fprintf(w, "lease/%s/%s %s %s%s\n", x.Lease.Service, x.Lease.Dispatcher, x.Lease.Address, word(x.Change), before)
	}
}

// heeded waits until every dispatcher applies the revision that is connected, or
// was when the controller last ran.
func heeded(ctx context.Context, c *operator.Client, revision uint64) error {
	poll := time.NewTicker(50 * time.Millisecond)
	defer poll.Stop()
	for {
		heeds, err := c.Heeds(ctx)
		if err != nil {
			return err
		}
		var late, refused []string
		for node, h := range heeds {
			switch {
			case h.Away:
				late = append(late, node+" (not connected since the controller started)")
			case h.Revision >= revision:
			case h.Error != "":
				refused = append(refused, node+": "+h.Error)
			default:
				late = append(late, node)
			}
		}
		slices.Sort(late)
		slices.Sort(refused)
		switch {
		case len(refused) > 0:
			return fmt.Errorf("stored as revision %d, but refused by %s", revision, strings.Join(refused, "; "))
		case len(late) == 0:
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("stored as revision %d, but not yet applied by %s: %w", revision, strings.Join(late, ", "), errTimeout)
		case <-poll.C:
		}
	}
}

func newExportCommand() *cobra.Command {
	cmd := policyCommand("export", "Print the whole dispatch policy and the leases of session addresses as YAML, for shunt import", cobra.NoArgs)
	return does(cmd, func(ctx context.Context, c *operator.Client, _ []string) error {
		p, revision, err := c.Export(ctx)
		if err != nil {
			return err
		}
		for _, s := range p.Services {
			s.Version = 0
		}
		for _, x := range p.Pools {
			x.Version = 0
		}
		for _, s := range p.Servers {
			s.Version = 0
		}
		text, err := policyyaml.Marshal(p)
		if err != nil {
			return err
		}
		_, err = fmt.Fprintf(cmd.OutOrStdout(), "# The dispatch policy, revision %d.\n%s", revision, text)
		return err
	})
}

func newDeleteCommand() *cobra.Command {
	cmd := policyCommand("delete KIND NAME... | -f FILE", "Delete services, pools or servers from the dispatch policy", cobra.ArbitraryArgs)
	files := cmd.Flags().StringArrayP("filename", "f", nil, "delete what this YAML `file` has, - for the standard input; may be repeated")
	var how change
	cmd.Flags().BoolVar(&how.dryRun, "dry-run", false, "only check")
	cmd.MarkFlagFilename("filename", "yaml", "yml")
	completion(cmd, first(ofKind("service", "pool", "server")), second(ofKind("service", "pool", "server")))
	return does(cmd, func(ctx context.Context, c *operator.Client, args []string) error {
		r := &shuntv1.DeleteRequest{DryRun: how.dryRun}
		if (len(args) > 0) == (len(*files) > 0) {
			return errors.New("say what to delete: a kind and names, or -f with a file")
		}
		if len(args) > 0 {
			kind, names, err := kindOf(args)
			if err != nil {
				return err
			}
			if resourceKinds[kind] == 0 || len(names) == 0 {
				return fmt.Errorf("write service, pool or server, and names; a route is deleted by applying its service without it")
			}
			for _, n := range names {
				r.Resources = append(r.Resources, &shuntv1.ResourceRef{Kind: resourceKinds[kind], Name: n})
			}
		} else {
			d, err := readPolicy(cmd, *files)
			if err != nil {
				return err
			}
			r.Resources = operator.Refs(d.Policy)
		}
		out, err := c.Delete(ctx, r)
		if err != nil {
			return err
		}
		printChanges(cmd.OutOrStdout(), &shuntv1.ApplyResponse{Changes: out.Changes}, how)
		return nil
	})
}

func first[A, B any](a A, _ B) A  { return a }
func second[A, B any](_ A, b B) B { return b }
