package attach

import (
	"cmp"
	"context"
	"log/slog"
	"net"

	"github.com/shunt-sdn/shunt/agent/httphead"
)

// RelayRequests relays the requests of a connection to a server as a Relayer
// does, for a dispatcher that proxies: after the first one each is put to the
// router. Of cfg it goes by Forwarded, Router, MaxHead, HeadTimeout and Timeouts.
// It closes both ends, unless the router's Move took the client's. The error says
// why they were reset.
func RelayRequests(ctx context.Context, client, backend *net.TCPConn, cfg RelayConfig, m Meta, log *slog.Logger) (Stats, error) {
	cfg.MaxHead = cmp.Or(cfg.MaxHead, httphead.DefaultMax)
	cfg.HeadTimeout = cmp.Or(cfg.HeadTimeout, DefaultHeadTimeout)
	return relayHTTP(ctx, client, backend, &cfg, m, nil, orDiscard(log))
}
