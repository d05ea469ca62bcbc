package operator

import (
	"context"
	"fmt"
	"io"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

func (c *Client) describeRoute(ctx context.Context, name string) (Description, error) {
	d := Description{Title: "route " + name}
	r, err := c.Routes(ctx, name)
	if err != nil {
		return d, err
	}
	for _, x := range r.list {
		text, err := policyText(x.route)
		if err != nil {
			return d, err
		}
		d.add(fmt.Sprintf("number %d of service %s", x.position+1, x.service), text)
		if x.route.Mode == shuntv1.DispatchMode_DISPATCH_MODE_AUTO {
			if text, err = c.learnt(ctx, x.service, x.route.Name); err != nil {
				return d, err
			}
			d.add("learnt for service "+x.service, text)
		}
	}
	return d, nil
}

// learnt is what dispatchers have learnt of a route in mode auto.
func (c *Client) learnt(ctx context.Context, service, route string) (string, error) {
	r, err := c.api.ListNodes(ctx, &shuntv1.ListNodesRequest{})
	if err != nil {
		return "", c.explain(err)
	}
	found := false
	text := aligned(func(w io.Writer) {
		row(w, "DISPATCHER", "ANSWERS", "MOVE", "COPY", "CHEAPER")
		for _, n := range r.GetNodes() {
			for _, l := range n.GetReport().GetLearned() {
				if l.Service != service || l.Route != route {
					continue
				}
				for _, x := range l.Sizes {
					found = true
					row(w, n.GetNode().GetName(), x.Octets(), average(x.MoveUs, x.Moved), average(x.CopyUs, x.Copied), cheaper(x))
				}
			}
		}
	})
	if !found {
		text = "nothing yet: both modes are tried\n"
	}
	return text, nil
}

func average(us, seen uint32) string {
	if seen == 0 {
		return "-"
	}
	return fmt.Sprintf("%.2f ms", float64(us)/1000)
}

func cheaper(x *shuntv1.LearnedSize) string {
	if m := x.Cheaper(); m != shuntv1.DispatchMode_DISPATCH_MODE_UNSPECIFIED {
		return lower(m, "DISPATCH_MODE_")
	}
	return "-"
}
