package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

const (
	bridge   = "br0"
	vswitchd = "ovs-vswitchd" // program and daemon
)

// startTime is what a daemon of the switch has to be there.
const startTime = 15 * time.Second

const installOVS = "install the package openvswitch-switch (scripts/setup.sh does), or use --switch sim"

// startOVS runs an Open vSwitch of the lab's own in the switch's namespace:
// its database, sockets and logs are in the lab's directory, and the machine's
// own service, if there is one, is not involved.
func (l *Lab) startOVS(ctx context.Context) error {
	dir := l.paths.openvswitch()
	if err := os.Mkdir(dir, 0o755); err != nil {
		return fmt.Errorf("make Open vSwitch's directory: %w", err)
	}
	programs := map[string]string{}
	for _, name := range []string{"ovsdb-tool", "ovsdb-server", "ovs-vsctl", vswitchd} {
		path, err := program(name, installOVS)
		if err != nil {
			return err
		}
		programs[name] = path
	}
	schema, err := ovsSchema()
	if err != nil {
		return err
	}
	database, socket := filepath.Join(dir, "conf.db"), filepath.Join(dir, "db.sock")
	if err := run(ctx, programs["ovsdb-tool"], "create", database, schema); err != nil {
		return err
	}
	env := []string{"OVS_RUNDIR=" + dir, "OVS_LOGDIR=" + dir, "OVS_DBDIR=" + dir}
	logging := []string{"-vsyslog:off", "-vconsole:info", "--no-chdir", "--pidfile", "--overwrite-pidfile"}

	db := &daemon{Host: SwitchHost, Name: "ovsdb-server", Env: env,
		Args: append([]string{programs["ovsdb-server"], database, "--remote=punix:" + socket}, logging...)}
	l.st.Daemons = append(l.st.Daemons, db)
	if err := l.start(db); err != nil {
		return err
	}
	if err := l.awaitSocket(ctx, db, socket); err != nil {
		return err
	}
	// All configuration is there before the switch starts: userspace TSO is
	// read once.
	args := append([]string{"--db=unix:" + socket, "--no-wait", "--timeout=10"}, l.ovsConfiguration()...)
	if err := run(ctx, programs["ovs-vsctl"], args...); err != nil {
		return err
	}
	sw := &daemon{Host: SwitchHost, Name: vswitchd, Env: env,
		Args: append([]string{programs[vswitchd], "unix:" + socket}, logging...)}
	l.st.Daemons = append(l.st.Daemons, sw)
	if err := l.start(sw); err != nil {
		return err
	}
	return l.settleOVS(ctx, sw)
}

// settleOVS waits until a switch that was started has opened its ports.
func (l *Lab) settleOVS(ctx context.Context, sw *daemon) error {
	if err := l.awaitSocket(ctx, sw, l.paths.bridgeSocket()); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	for {
		found, err := enlargePortBuffers(sw.Process.PID)
		if err != nil {
			return err
		}
		if found >= len(l.ports()) {
			return nil
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for Open vSwitch to open its %d ports: %w; its log's last lines:\n%s", len(l.ports()), err, l.tail(sw, 10))
		}
	}
}

// ovsConfiguration returns ovs-vsctl's commands.
func (l *Lab) ovsConfiguration() []string {
	var args []string
	command := func(words ...string) { args = append(append(args, "--"), words...) }
	command("init")
	// Ports are veth ends with offloads on: without this the switch has to see
	// frames of at most the MTU with full checksums.
	command("set", "Open_vSwitch", ".", "other_config:userspace-tso-enable=true")
	command("add-br", bridge)
	command("set", "Bridge", bridge, "datapath_type=netdev", "fail_mode=secure",
		fmt.Sprintf("other_config:datapath-id=%016x", datapathID), "other_config:disable-in-band=true")
	// Else the switch removes the queueing disciplines of the NIC rate.
	command("--id=@noop", "create", "QoS", "type=linux-noop")
	for i, port := range l.ports() {
		command("add-port", bridge, port)
		command("set", "Interface", port, "ofport_request="+strconv.Itoa(i+1))
		command("set", "Port", port, "qos=@noop")
	}
	if l.st.Options.TLS {
		command("set-ssl", l.paths.key(SwitchHost), l.paths.certificate(SwitchHost), l.paths.authority())
	}
	command("set-controller", bridge, l.openflowTarget())
	command("set", "Controller", bridge, "connection_mode=out-of-band", "max_backoff=1000", "inactivity_probe=5000")
	return args
}

// ports are the names of the switch's data ports.
func (l *Lab) ports() []string {
	var names []string
	for _, h := range l.st.Hosts {
		if h.MAC != "" {
			names = append(names, h.Name)
		}
	}
	return names
}

// openflowTarget is what the switch connects to, as Open vSwitch writes it.
func (l *Lab) openflowTarget() string {
	proto := "tcp"
	if l.st.Options.TLS {
		proto = "ssl"
	}
	return proto + ":" + controllerAddress(openflowPort)
}

func ovsSchema() (string, error) {
	for _, dir := range []string{"/usr/share/openvswitch", "/usr/local/share/openvswitch"} {
		path := filepath.Join(dir, "vswitch.ovsschema")
		if _, err := os.Stat(path); err == nil {
			return path, nil
		}
	}
	return "", fmt.Errorf("the schema of Open vSwitch is not in /usr/share/openvswitch; %s", installOVS)
}

// awaitSocket waits until a daemon of the lab listens on a unix socket.
func (l *Lab) awaitSocket(ctx context.Context, d *daemon, path string) error {
	ctx, cancel := context.WithTimeout(ctx, startTime)
	defer cancel()
	var dialer net.Dialer
	for {
		c, err := dialer.DialContext(ctx, "unix", path)
		if err == nil {
			return c.Close()
		}
		if !d.Process.Alive() {
			return fmt.Errorf("%s ended; its log's last lines:\n%s", d.Name, l.tail(d, 10))
		}
		if err := pause(ctx); err != nil {
			return fmt.Errorf("wait for %s on %s: %w; its log's last lines:\n%s", d.Name, path, err, l.tail(d, 10))
		}
	}
}

// pause lets a poll of a condition rest for a moment.
func pause(ctx context.Context) error {
	t := time.NewTimer(20 * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

// run runs a program of the lab's own set-up.
func run(ctx context.Context, program string, args ...string) error {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("%s is not installed", program)
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", program, strings.Join(args, " "), err, strings.TrimSpace(string(out)))
	}
	return nil
}
