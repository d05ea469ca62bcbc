package doctor

import (
	"context"
	"crypto/tls"
	"errors"
	"os"
	"time"

	"github.com/shunt-sdn/shunt/controller/config"
	"github.com/shunt-sdn/shunt/controller/operator"
)

// ControllerOptions say what to check of a controller and its switches.
type ControllerOptions struct {
	File   string    // the controller's configuration
	Switch string    // where to reach the switch directly: as in openflow.Dial; "": as configured
	OVSDB  string    // unix:/path or tcp:host:port; "": not asked
	Bridge string    // of the database; "": found by datapath id or ports
	Now    time.Time // zero: time.Now()
}

// CheckController checks a controller's configuration and the switches in it.
// While a controller runs that switches dial, it is asked for them; else the
// doctor waits for them in its place.
func CheckController(ctx context.Context, o ControllerOptions) Report {
	var r Report
	if o.Now.IsZero() {
		o.Now = time.Now()
	}
	cfg, err := config.Load(o.File)
	if err != nil {
		r.fail("config", o.File, "correct it: shunt controller --check --config "+o.File, "%v", err)
		return r
	}
	r.ok("config", o.File, "valid")
	r.checkClock()
	var conf *tls.Config
	if !cfg.Insecure {
		// By which names agents reach it they know; their doctors check that.
		conf = r.checkCertificate(cfg.TLS, nil, o.Now)
		if conf != nil {
			conf.MinVersion = tls.VersionTLS12 // for switches: see package controller
		}
	}
	r.checkPoolsOf(cfg)
	r.checkSwitches(ctx, o, cfg, conf)
	if o.OVSDB != "" {
		r.checkBridges(ctx, o, cfg)
	}
	return r
}

// checkPoolsOf holds the size of the pools against the number of services.
func (r *Report) checkPoolsOf(cfg config.Config) {
	capacity := 0
	for _, p := range cfg.Pools {
		if host := p.Addr().BitLen() - p.Bits(); host < 20 {
			capacity += 1 << host
		} else {
			capacity += 1 << 20
		}
	}
	need := len(cfg.Services)
	if capacity < 4*need {
		r.warn("pool-size", "", "add a pool: one address is taken for each service and dispatcher", "the pools have %d addresses for %s", capacity, describe("service", need))
		return
	}
	r.ok("pool-size", "", "%d addresses for %s; each dispatcher takes one of each", capacity, describe("service", need))
}

// running asks the controller that runs with this configuration, if one does.
func running(ctx context.Context, cfg config.Config) (operator.Status, error) {
	if _, err := os.Stat(cfg.Listen.Operator); errors.Is(err, os.ErrNotExist) {
		return operator.Status{}, err
	}
	ctx, cancel := context.WithTimeout(ctx, connectTime)
	defer cancel()
	c, err := operator.Dial(operator.Target{Address: "unix:" + cfg.Listen.Operator})
	if err != nil {
		return operator.Status{}, err
	}
	defer c.Close()
	return c.Status(ctx)
}
