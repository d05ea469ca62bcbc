package main

import (
	"context"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/controller/operator"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func newExplainCommand() *cobra.Command {
	cmd := policyCommand(`explain "[METHOD] URL"`, "Tell where a request would go now, and why; nothing is sent", cobra.RangeArgs(1, 2))
	headers := cmd.Flags().StringArrayP("header", "H", nil, "a `field` of the request, \"Name: value\"; may be repeated")
	service := cmd.Flags().String("service", "", "the `name` of the service; default: the one that the URL leads to, or the only one")
	client := cmd.Flags().String("client", "", "the client's `address`")
	cmd.ValidArgsFunction = cobra.NoFileCompletions
	cmd.RegisterFlagCompletionFunc("service", func(_ *cobra.Command, _ []string, _ string) ([]string, cobra.ShellCompDirective) {
		names, err := completions(cmd.Context(), cmd, "service")
		if err != nil {
			return nil, cobra.ShellCompDirectiveError
		}
		return names, cobra.ShellCompDirectiveNoFileComp
	})
	return does(cmd, func(ctx context.Context, c *operator.Client, args []string) error {
		r := &shuntv1.ExplainRequest{Service: *service, Client: *client}
		switch words := strings.Fields(strings.Join(args, " ")); len(words) {
		case 1:
			r.Url = words[0]
		case 2:
			r.Method, r.Url = words[0], words[1]
		default:
			return fmt.Errorf("%q is no request: write \"GET http://shop.example/cart\"", strings.Join(args, " "))
		}
		for _, h := range *headers {
			name, value, ok := strings.Cut(h, ":")
			if !ok || strings.TrimSpace(name) == "" {
				return fmt.Errorf("-H %q: write \"Name: value\"", h)
			}
			r.Headers = append(r.Headers, &shuntv1.Header{Name: strings.TrimSpace(name), Value: strings.TrimSpace(value)})
		}
		answer, err := c.Explain(ctx, r)
		if err != nil {
			return err
		}
		return operator.Print(cmd.OutOrStdout(), cmd.Flags().Lookup("output").Value.String(), answer)
	})
}
