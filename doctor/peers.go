package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials"
	"google.golang.org/grpc/credentials/insecure"

	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// connectTime bounds each attempt to reach somebody.
const connectTime = 3 * time.Second

// checkReach connects to host:port, with TLS unless conf is nil, and reports
// whether that worked. Its checks are what-reach and what-tls.
func (r *Report) checkReach(ctx context.Context, what, subject, address string, conf *tls.Config) bool {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	if subject == "" {
		subject = address
	}
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		r.fail(what+"-reach", subject, "see that it runs, listens there, and that no firewall is in between", "cannot connect to %s: %v", address, err)
		return false
	}
	defer c.Close()
	r.ok(what+"-reach", subject, "accepts connections on %s", address)
	if conf == nil {
		return true
	}
	conf = conf.Clone()
	conf.NextProtos = []string{"h2"}
	if conf.ServerName == "" {
		conf.ServerName, _, _ = net.SplitHostPort(address)
	}
	t := tls.Client(c, conf)
	err = t.HandshakeContext(ctx)
	if err == nil {
		// With TLS 1.3 what the other thinks of our certificate comes after the
		// handshake; the server's first octets are HTTP/2's settings.
		deadline, _ := ctx.Deadline()
		_ = t.SetReadDeadline(deadline)
		_, err = t.Read(make([]byte, 1))
	}
	if err != nil {
		remedy := "use certificates of one authority, with the names that others connect to"
		if strings.Contains(err.Error(), "first record does not look like") {
			remedy = "configure tls on both sides, or insecure on both"
		}
		r.fail(what+"-tls", subject, remedy, "TLS with %s: %v", address, err)
		return false
	}
	r.ok(what+"-tls", subject, "both sides trust each other")
	return true
}

// Limits of what the way to a peer may be like: an import's deadline is in the
// target's clock, which the source knows to within one round trip.
const (
	pings    = 8
	slowPeer = 50 * time.Millisecond
	maxDrift = 0.002
)

// checkPeerClock measures the way to an agent and its clock's pace as the links
// between agents do.
func (r *Report) checkPeerClock(ctx context.Context, subject, address string, conf *tls.Config) {
	creds := insecure.NewCredentials()
	if conf != nil {
		creds = credentials.NewTLS(conf)
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	conn, err := grpc.NewClient("passthrough:///"+address, grpc.WithTransportCredentials(creds))
	if err != nil {
		r.fail("peer-clock", subject, "", "%v", err)
		return
	}
	defer conn.Close()
	rtt, drift, err := measure(ctx, shuntv1.NewTransferServiceClient(conn))
	switch {
	case err != nil:
		r.fail("peer-clock", subject, "see that an agent of this version listens there", "the agent does not answer: %v", err)
	case rtt > slowPeer:
		r.warn("peer-clock", subject, "put agents on a management network without detours, or raise import_timeout", "a round trip takes %v: every hand-off waits for one", rtt.Round(time.Microsecond))
	case drift > maxDrift || drift < -maxDrift:
		r.fail("peer-clock", subject, "repair its clock", "its clock runs %.1f per mille off ours: deadlines of hand-offs would not hold", drift*1000)
	default:
		r.ok("peer-clock", subject, "round trip %v, clocks keep pace", rtt.Round(time.Microsecond))
	}
}

// measure returns the shortest round trip and how much faster the target's
// clock runs, beyond what the round trips leave open.
func measure(ctx context.Context, c shuntv1.TransferServiceClient) (rtt time.Duration, drift float64, err error) {
	stream, err := c.Transfer(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer func() { _ = stream.CloseSend() }()
	epoch := time.Now()
	type sample struct{ sent, received, clock time.Duration }
	var samples []sample
	for range pings {
		sent := time.Since(epoch)
		if err := stream.Send(&shuntv1.TransferRequest{Message: &shuntv1.TransferRequest_Ping{Ping: &shuntv1.Ping{SentNano: int64(sent)}}}); err != nil {
			return 0, 0, err
		}
		for {
			m, err := stream.Recv()
			if err != nil {
				return 0, 0, err
			}
			if pong := m.GetPong(); pong != nil {
				samples = append(samples, sample{sent, time.Since(epoch), time.Duration(pong.ClockNano)})
				break
			}
		}
		select {
		case <-ctx.Done():
			return 0, 0, context.Cause(ctx)
		case <-time.After(20 * time.Millisecond):
		}
	}
	rtt = samples[0].received - samples[0].sent
	for _, s := range samples {
		rtt = min(rtt, s.received-s.sent)
	}
	// Between the first and the last sample the target's clock advanced by what
	// ours did, give or take both round trips.
	first, last := samples[0], samples[len(samples)-1]
	theirs := last.clock - first.clock
	least, most := last.sent-first.received, last.received-first.sent
	switch {
	case theirs > most:
		drift = float64(theirs-most) / float64(most)
	case theirs < least:
		drift = float64(theirs-least) / float64(least)
	}
	return rtt, drift, nil
}

// checkConnect tries an application's address.
func (r *Report) checkConnect(ctx context.Context, check, subject, address, remedy string) {
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	c, err := (&net.Dialer{}).DialContext(ctx, "tcp", address)
	if err != nil {
		r.fail(check, subject, remedy, "nothing accepts connections on %s: %v", address, errors.Unwrap(err))
		return
	}
	c.Close()
	r.ok(check, subject, "accepts connections on %s", address)
}

func describe(what string, n int) string {
	if n == 1 {
		return fmt.Sprintf("1 %s", what)
	}
	return fmt.Sprintf("%d %ss", n, what)
}
