package lab

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// Operator connects to the controller. The caller closes the connection.
func (l *Lab) Operator() (shuntv1.OperatorServiceClient, io.Closer, error) {
	conn, err := grpc.NewClient("unix:"+l.paths.operator(), grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return nil, nil, fmt.Errorf("connect to the lab's controller: %w", err)
	}
	return shuntv1.NewOperatorServiceClient(conn), conn, nil
}

// Dial connects from a host to an IP address and port. It has the form that
// http.Transport.DialContext wants.
func (l *Lab) Dial(host string) func(ctx context.Context, network, address string) (net.Conn, error) {
	return func(ctx context.Context, network, address string) (c net.Conn, err error) {
		if _, err := netip.ParseAddrPort(address); err != nil {
			return nil, fmt.Errorf("connect from %s: names are not resolved in a lab: %w", host, err)
		}
		err = l.Do(host, func() (err error) {
			var d net.Dialer
			c, err = d.DialContext(ctx, network, address)
			return err
		})
		return c, err
	}
}

// Client returns an HTTP client on a host. It makes a connection per request.
func (l *Lab) Client(host string) *http.Client {
	return &http.Client{Transport: &http.Transport{DialContext: l.Dial(host), DisableKeepAlives: true, DisableCompression: true}}
}

// ready waits until every node is up, the switch is connected, and one request
// from each client to each service at each virtual address has succeeded with a
// hand-off, and every server has answered one of each. It returns the steering that the controller
// uses.
func (l *Lab) ready(ctx context.Context) (steering string, err error) {
	operator, closer, err := l.Operator()
	if err != nil {
		return "", err
	}
	defer closer.Close()
	answered := make(map[answer]bool) // over all tries
	for {
		steering, err := l.tryAll(ctx, operator, answered)
		if err == nil {
			return steering, nil
		}
		if ended := l.ended(); len(ended) > 0 {
			return "", l.explain(fmt.Errorf("%s on %s ended", ended[0].Name, ended[0].Host), ended)
		}
		if ctxErr := pause(ctx); errors.Is(ctxErr, context.Canceled) {
			return "", fmt.Errorf("wait for the lab to get ready: %w", ctxErr)
		} else if ctxErr != nil {
			return "", l.explain(fmt.Errorf("the lab did not get ready in time (%w); last: %w", ctxErr, err), l.st.Daemons)
		}
	}
}

// answer is a service that a server has answered.
type answer struct{ service, server string }

// tryAll is one look at everything that ready waits for.
func (l *Lab) tryAll(ctx context.Context, operator shuntv1.OperatorServiceClient, answered map[answer]bool) (steering string, err error) {
	before, err := l.status(ctx, operator)
	if err != nil {
		return "", err
	}
	requests := uint64(0)
	for _, h := range l.st.withRole(RoleClient) {
		client := l.Client(h.Name)
		for _, s := range l.Services() {
			for _, vip := range s.VIPs() {
				node, err := whoami(ctx, client, netip.AddrPortFrom(vip, s.Port))
				if err != nil {
					return "", fmt.Errorf("request from %s: %w", h.Name, err)
				}
				answered[answer{s.Name, node}] = true
				requests++
			}
		}
	}
	for _, h := range l.st.withRole(RoleServer) {
		for _, s := range l.Services() {
			if !answered[answer{s.Name, h.Name}] {
				return "", fmt.Errorf("%s has answered no request to service %s yet", h.Name, s.Name)
			}
		}
	}
	// The agents report a hand-off after the fact.
	patient, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	for {
		after, err := l.status(patient, operator)
		if err != nil {
			return "", err
		}
		if after.GetHandoffsCompleted() >= before.GetHandoffsCompleted()+requests {
			return after.GetSwitches()[0].GetSteering(), nil
		}
		if pause(patient) != nil {
			return "", fmt.Errorf("%d requests answered, but hand-offs only %d completed, %d rolled back, %d failed, and %d proxied", requests,
				after.GetHandoffsCompleted()-before.GetHandoffsCompleted(), after.GetHandoffsRolledBack()-before.GetHandoffsRolledBack(),
				after.GetHandoffsFailed()-before.GetHandoffsFailed(), after.GetRequestsProxied()-before.GetRequestsProxied())
		}
	}
}

// status returns the controller's view, or what is missing from it.
func (l *Lab) status(ctx context.Context, operator shuntv1.OperatorServiceClient) (*shuntv1.GetStatusResponse, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	st, err := operator.GetStatus(ctx, &shuntv1.GetStatusRequest{})
	if err != nil {
		return nil, fmt.Errorf("ask the controller: %w", err)
	}
	nodes := map[string]*shuntv1.Node{}
	for _, n := range st.GetNodes() {
		nodes[n.GetName()] = n
	}
	var missing []string
	for _, h := range append(l.st.withRole(RoleDispatcher), l.st.withRole(RoleServer)...) {
		n := nodes[h.Name]
		if !n.GetUp() || h.Role == RoleServer && !l.allReady(n.GetApplications()) {
			missing = append(missing, h.Name)
		}
	}
	if len(missing) > 0 {
		return nil, fmt.Errorf("the controller does not have up, with all applications ready on servers: %s", strings.Join(missing, ", "))
	}
	if len(st.GetSwitches()) == 0 || !st.GetSwitches()[0].GetConnected() {
		return nil, errors.New("the switch is not connected to the controller")
	}
	return st, nil
}

// allReady tells whether a server's applications take sessions of every service.
func (l *Lab) allReady(apps []*shuntv1.Application) bool {
	for _, s := range l.Services() {
		ready := func(a *shuntv1.Application) bool { return a.GetService() == s.Name && a.GetReady() }
		if !slices.ContainsFunc(apps, ready) {
			return false
		}
	}
	return true
}

// whoami returns the name of the server that answers.
func whoami(ctx context.Context, client *http.Client, service netip.AddrPort) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+service.String()+"/whoami", nil)
	if err != nil {
		return "", err
	}
	res, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer res.Body.Close()
	body, err := io.ReadAll(io.LimitReader(res.Body, 1024))
	if err == nil && res.StatusCode != http.StatusOK {
		err = fmt.Errorf("%s: %s: %s", req.URL, res.Status, strings.TrimSpace(string(body)))
	}
	return strings.TrimSpace(string(body)), err
}

// explain adds the ends of logs to an error.
func (l *Lab) explain(err error, daemons []*daemon) error {
	var b strings.Builder
	for _, d := range daemons {
		fmt.Fprintf(&b, "\n%s on %s, last lines of the log:\n%s", d.Name, d.Host, l.tail(d, 8))
	}
	return fmt.Errorf("%w%s", err, b.String())
}
