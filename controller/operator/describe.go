package operator

import (
	"bytes"
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"strings"
	"text/tabwriter"

	"google.golang.org/protobuf/proto"

	"github.com/shunt-sdn/shunt/internal/policyyaml"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Description is everything about one resource, for people.
type Description struct {
	Title    string    `json:"title"`
	Sections []Section `json:"sections"`
}

// Section is a part of a Description.
type Section struct {
	Title string `json:"title"`
	Text  string `json:"text"`
}

func (d Description) table(w io.Writer) {
	fmt.Fprintln(w, d.Title)
	for _, s := range d.Sections {
		fmt.Fprintf(w, "\n%s:\n", s.Title)
		for line := range strings.Lines(s.Text) {
			fmt.Fprint(w, "  ", strings.ReplaceAll(line, "\t", " "))
		}
	}
}

func (d *Description) add(title, text string) {
	if text != "" {
		d.Sections = append(d.Sections, Section{title, text})
	}
}

// aligned is a table as text.
func aligned(write func(io.Writer)) string {
	var b bytes.Buffer
	t := tabwriter.NewWriter(&b, 0, 8, 2, ' ', 0)
	write(t)
	t.Flush() // a buffer takes everything
	return b.String()
}

// Describe tells all about a service, route, pool or server.
func (c *Client) Describe(ctx context.Context, kind, name string) (Description, error) {
	switch kind {
	case "service":
		return c.describeService(ctx, name)
	case "route":
		return c.describeRoute(ctx, name)
	case "pool":
		return c.describePool(ctx, name)
	default:
		return c.describeServer(ctx, name)
	}
}

func policyText(m proto.Message) (string, error) {
	text, err := policyyaml.Marshal(m)
	return string(text), err
}

func (c *Client) describeService(ctx context.Context, name string) (Description, error) {
	d := Description{Title: "service " + name}
	list, err := c.PolicyServices(ctx, name)
	if err != nil {
		return d, err
	}
	s := list.list[0]
	d.add("addresses", aligned(func(w io.Writer) {
		row(w, "VIP", "DISPATCHER", "SESSION ADDRESS")
		for _, l := range s.running.Leases {
			row(w, l.VIP, l.Dispatcher, l.Address)
		}
	}))
	if s.policy != nil {
		text, err := policyText(s.policy)
		if err != nil {
			return d, err
		}
		d.add("policy", text)
	} else {
		d.add("policy", "none: round robin over the servers\n")
	}
	heeds, err := c.Heeds(ctx)
	if err != nil {
		return d, err
	}
	d.add("dispatchers", aligned(func(w io.Writer) {
		row(w, "DISPATCHER", "APPLIES", "ERROR")
		for _, n := range slices.Sorted(maps.Keys(heeds)) {
			if heeds[n].Away {
				row(w, n, "not known", "not connected since the controller started")
				continue
			}
			row(w, n, fmt.Sprint("revision ", heeds[n].Revision), heeds[n].Error)
		}
	}))
	top, err := c.Top(ctx, name)
	if err != nil {
		return d, err
	}
	d.add("now", aligned(top.table))
	return d, nil
}

func (c *Client) describePool(ctx context.Context, name string) (Description, error) {
	d := Description{Title: "pool " + name}
	p, err := c.Pools(ctx, name)
	if err != nil {
		return d, err
	}
	text, err := policyText(p.list[0])
	if err != nil {
		return d, err
	}
	d.add("policy", text)
	d.add("members", aligned(func(w io.Writer) {
		row(w, "SERVER", "POOL", "HEALTH", "SINCE", "REASON")
		for _, server := range slices.Sorted(maps.Keys(p.top.states)) {
			for _, s := range p.top.states[server] {
				if s.in(name) {
					row(w, server, s.Pool, s.Health, word(s.Since), s.Reason)
				}
			}
		}
	}))
	users, err := c.users(ctx, name)
	if err != nil {
		return d, err
	}
	d.add("used by", users)
	return d, nil
}

// users lists what leads to a pool.
func (c *Client) users(ctx context.Context, pool string) (string, error) {
	p, _, err := c.Policy(ctx, shuntv1.ResourceKind_RESOURCE_KIND_UNSPECIFIED)
	if err != nil {
		return "", err
	}
	var b strings.Builder
	for _, s := range p.Services {
		for _, r := range s.Routes {
			if r.Pool == pool || slices.ContainsFunc(r.Pools, func(w *shuntv1.WeightedPool) bool { return w.Pool == pool }) {
				fmt.Fprintf(&b, "route %s of service %s\n", r.Name, s.Name)
			}
		}
		if s.DefaultPool == pool {
			fmt.Fprintf(&b, "service %s, for requests that no route matches\n", s.Name)
		}
	}
	for _, x := range p.Pools {
		if x.Backup == pool {
			fmt.Fprintf(&b, "pool %s, as its backup\n", x.Name)
		}
	}
	return b.String(), nil
}

func (c *Client) describeServer(ctx context.Context, name string) (Description, error) {
	d := Description{Title: "server " + name}
	list, err := c.Servers(ctx, name)
	if err != nil {
		return d, err
	}
	s := list[0]
	d.add("now", aligned(func(w io.Writer) { list.table(w) }))
	d.add("pools", aligned(func(w io.Writer) {
		row(w, "POOL", "HEALTH", "SINCE", "REASON")
		for _, m := range s.Pools {
			row(w, m.Pool, m.Health, word(m.Since), m.Reason)
		}
	}))
	if p := list.policy().Servers; len(p) > 0 {
		text, err := policyText(p[0])
		if err != nil {
			return d, err
		}
		d.add("policy", text)
	}
	nodes, err := c.Nodes(ctx)
	if err != nil {
		return d, err
	}
	for _, n := range nodes {
		if n.Name == name {
			d.add("node", aligned(func(w io.Writer) { Nodes{n}.table(w) }))
		}
	}
	return d, nil
}
