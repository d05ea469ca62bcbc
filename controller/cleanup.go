package controller

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"os"
	"time"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/fabric"
	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/controller/openflow"
	"github.com/shunt-sdn/shunt/controller/pipeline"
)

// Cleanup removes what Shunt put into the configured switches, and nothing
// else: the flows with its cookies, and the connections that the switch tracks
// in its zone. It dials switches as the controller does, and waits for those
// that dial in until ctx ends. Every one of them is looked at again; the error
// names those that could not be reached or still have something. It refuses
// while a controller runs, which would put everything back.
//
// Sessions that are steered by a switch break, as does every new connection to
// a service.
func Cleanup(ctx context.Context, cfg config.Config, log *slog.Logger) error {
	if err := alone(cfg); err != nil {
		return err
	}
	certs, err := loadCertificates(cfg, log)
	if err != nil {
		return err
	}
	var errs []error
	var waiting []config.Switch
	for _, s := range cfg.Switches {
		if s.Connect == "" {
			waiting = append(waiting, s)
			continue
		}
		nc, err := openflow.Dial(ctx, s.Connect, certs.dialled())
		if err == nil {
			err = cleanSwitch(ctx, nc, func(dpid uint64) bool { return s.DPID == 0 || dpid == s.DPID }, log)
		}
		if err != nil {
			errs = append(errs, fmt.Errorf("clean up switch %s: %w", s.Connect, err))
		}
	}
	if len(waiting) > 0 {
		errs = append(errs, cleanCallers(ctx, cfg.Listen.OpenFlow, certs.switches, waiting, log))
	}
	return errors.Join(errs...)
}

// alone fails if a controller has the state database open.
func alone(cfg config.Config) error {
	if _, err := os.Stat(cfg.State); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	store, err := leases.Open(cfg.State)
	if err != nil {
		return fmt.Errorf("%w; stop it before its switches are cleaned up", err)
	}
	return store.Close()
}

// cleanCallers waits for switches that dial in, until all that are wanted came
// or ctx ends.
func cleanCallers(ctx context.Context, address string, conf *tls.Config, wanted []config.Switch, log *slog.Logger) error {
	l, err := openflow.Listen(address, conf)
	if err != nil {
		return fmt.Errorf("%w; is a controller running already?", err)
	}
	defer l.Close()
	stop := context.AfterFunc(ctx, func() { l.Close() })
	defer stop()
	log.Info("waiting for switches", "listen", l.Addr(), "switches", len(wanted))
	var last error
	for len(wanted) > 0 {
		nc, err := l.Accept()
		if err != nil {
			return errors.Join(fmt.Errorf("%d switches did not connect to %s: %w; set their controller to this host", len(wanted), address, context.Cause(ctx)), last)
		}
		index := -1
		err = cleanSwitch(ctx, nc, func(dpid uint64) bool {
			for i, s := range wanted {
				if s.DPID == dpid || s.DPID == 0 {
					index = i
					return true
				}
			}
			return false
		}, log)
		if err != nil { // it will come again
			last = fmt.Errorf("clean up the switch at %v: %w", nc.RemoteAddr(), err)
			log.Warn("a switch was not cleaned up", "err", last)
			continue
		}
		wanted = append(wanted[:index:index], wanted[index+1:]...)
	}
	return nil
}

var errOther = errors.New("its datapath id is not in the configuration")

// cleanSwitch cleans up the switch at the other end of nc if it is the one that
// is meant.
func cleanSwitch(ctx context.Context, nc net.Conn, meant func(dpid uint64) bool, log *slog.Logger) error {
	conn, err := openflow.Handshake(ctx, nc, openflow.Config{Log: log})
	if err != nil {
		return err
	}
	run, end := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		_ = conn.Run(run) // why it ended, requests say
	}()
	defer func() {
		end()
		<-done
	}()
	if !meant(conn.DatapathID()) {
		return fmt.Errorf("datapath id %016x: %w", conn.DatapathID(), errOther)
	}
	ctx, cancel := context.WithTimeout(ctx, 30*time.Second)
	defer cancel()
	before, err := conn.FlowStats(ctx, pipeline.CookieBase, pipeline.CookieMask)
	if err != nil {
		return fmt.Errorf("read its flows: %w", err)
	}
	all := openflow.FlowMod{Command: openflow.Delete, Flow: openflow.Flow{Table: openflow.NoTable, Cookie: pipeline.CookieBase}, CookieMask: pipeline.CookieMask}
	if err := conn.Apply(ctx, all); err != nil {
		return fmt.Errorf("delete its flows: %w", err)
	}
	if conn.Description().IsOpenVSwitch() {
		if err := conn.FlushConntrack(ctx, fabric.DefaultZone); err != nil {
			return fmt.Errorf("forget the connections that it tracks: %w", err)
		}
	}
	after, err := conn.FlowStats(ctx, pipeline.CookieBase, pipeline.CookieMask)
	if err != nil {
		return fmt.Errorf("read its flows again: %w", err)
	}
	if len(after) > 0 {
		return fmt.Errorf("%d of its flows are still there; does another Shunt controller drive it?", len(after))
	}
	others, err := conn.FlowStats(ctx, 0, 0)
	if err != nil {
		return fmt.Errorf("read the flows of others: %w", err)
	}
	log.Info("switch is clean", "switch", fmt.Sprintf("%016x", conn.DatapathID()), "removed", len(before), "left", len(others))
	return nil
}
