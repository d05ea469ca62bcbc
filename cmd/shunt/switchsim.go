package main

import (
	"crypto/tls"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/internal/tlsconf"
	"github.com/shunt-sdn/shunt/switchsim"
)

func newSwitchsimCommand() *cobra.Command {
	var (
		cfg      switchsim.Config
		dpid     string
		level    string
		insecure bool
		files    tlsconf.Files
	)
	cmd := &cobra.Command{
		Use:   "switchsim --port NAME… --controller tcp:HOST:PORT",
		Short: "Run a simulated OpenFlow 1.3 switch on interfaces of this machine",
		Long: `Run a simulated OpenFlow 1.3 switch that forwards real packets between interfaces of
the network namespace that it runs in. It needs root (CAP_NET_RAW and CAP_NET_ADMIN).
The kernel sees the packets on the ports too: give the ports no addresses.

Options under "misbehave" turn it into a bad switch, for tests.`,
		Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			log, err := logger(level)
			if err != nil {
				return err
			}
			cfg.Log = log
			if cfg.DatapathID, err = strconv.ParseUint(strings.TrimPrefix(dpid, "0x"), 16, 64); err != nil {
				return fmt.Errorf("--dpid %q: it is up to 16 hexadecimal digits", dpid)
			}
			if err := switchTLS(&cfg, files, insecure); err != nil {
				return err
			}
			s, err := switchsim.New(cfg)
			if err != nil {
				return err
			}
			log.Info("switch starts", "dpid", fmt.Sprintf("%016x", cfg.DatapathID), "ports", cfg.Ports, "controllers", cfg.Controllers, "listen", cfg.Listen)
			return s.Run(cmd.Context())
		},
	}
	f := cmd.Flags()
	f.StringVar(&dpid, "dpid", "1", "datapath identifier, hexadecimal")
	f.StringSliceVar(&cfg.Ports, "port", nil, "interface to use as a port; repeat for more, numbered from 1")
	f.StringVar(&cfg.PortPattern, "port-pattern", "", "interfaces to use as ports while they exist, such as 'p-*'")
	f.StringSliceVar(&cfg.Controllers, "controller", nil, "controller to dial: tcp:HOST[:PORT], ssl:HOST[:PORT], unix:/PATH")
	f.StringSliceVar(&cfg.Listen, "listen", nil, "where controllers and ovs-ofctl may connect: ptcp:[PORT][:HOST], pssl:[PORT][:HOST], punix:/PATH")
	f.BoolVar(&insecure, "insecure", false, "speak plain TCP with controllers on other machines")
	f.StringVar(&files.Cert, "tls-cert", "", "PEM file of the switch's certificate")
	f.StringVar(&files.Key, "tls-key", "", "PEM file of its key")
	f.StringVar(&files.CA, "tls-ca", "", "PEM file of the authority of controllers' certificates")
	f.IntVar(&cfg.Tables, "tables", 254, "number of flow tables")
	f.DurationVar(&cfg.MaxBackoff, "max-backoff", time.Second, "longest wait between attempts to reach a controller")
	f.StringVar(&level, "log-level", "info", "debug, info, warn or error")

	m := &cfg.Misbehaviour
	f.IntVar(&cfg.TableCapacity, "misbehave-table-capacity", 0, "flows that a table holds; 0: no limit")
	f.DurationVar(&m.InstallDelay, "misbehave-install-delay", 0, "flows take effect so much after they were acknowledged")
	f.DurationVar(&m.StaleCache, "misbehave-stale-cache", 0, "connections keep their old path for so long after a change")
	f.DurationVar(&m.SlowBarrier, "misbehave-slow-barrier", 0, "barriers are answered so much later")
	f.DurationVar(&m.LateErrors, "misbehave-late-errors", 0, "errors are sent so much later, after other replies")
	f.IntVar(&m.DropAfter, "misbehave-drop-after", 0, "close a controller's connection after so many messages; 0: never")
	f.BoolVar(&m.NoNicira, "misbehave-no-extensions", false, "pure OpenFlow 1.3: no connection tracker, TCP flags or moves")
	return cmd
}

// switchTLS loads the certificates, if any are named, and refuses plain TCP to
// other machines unless it was asked for.
func switchTLS(cfg *switchsim.Config, files tlsconf.Files, insecure bool) error {
	plain := false
	for _, t := range append(append([]string(nil), cfg.Controllers...), cfg.Listen...) {
		plain = plain || strings.HasPrefix(t, "tcp:") || strings.HasPrefix(t, "ptcp:")
	}
	if plain && !insecure {
		return errors.New("tcp: and ptcp: are not encrypted: use ssl: and pssl: with --tls-cert, --tls-key and --tls-ca, or allow it with --insecure")
	}
	if files == (tlsconf.Files{}) {
		return nil
	}
	server, err := tlsconf.Reload(files.Server, cfg.Log)
	if err != nil {
		return err
	}
	client, err := tlsconf.Reload(func() (*tls.Config, error) {
		return files.Client("") // the name is filled in from the address dialled
	}, cfg.Log)
	if err != nil {
		return err
	}
	cfg.ListenTLS, cfg.TLS = server.ForServer(), client.Config
	return nil
}
