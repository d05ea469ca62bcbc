package lab

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"

	"go.yaml.in/yaml/v3"
)

// Ports that the daemons listen on, in the management network.
const (
	agentsPort   = 6640
	openflowPort = 6653
	transferPort = 6641
)

func controllerAddress(port int) string {
	return net.JoinHostPort(number4(management, controllerNumber).String(), strconv.Itoa(port))
}

// object is a YAML mapping; its keys are written in order.
type object = map[string]any

func (l *Lab) controllerConfig() object {
	o := l.st.Options
	pools := []netip.Prefix{pool4}
	if o.IPv6 {
		pools = append(pools, pool6)
	}
	var interfaces []object
	for _, seg := range []segment{clientSegment, nodeSegment} {
		addresses := []netip.Prefix{seg.v4}
		if o.IPv6 {
			addresses = append(addresses, seg.v6)
		}
		var ports []string
		for _, h := range l.st.Hosts {
			if h.MAC != "" && segmentOf(h.Role).name == seg.name {
				ports = append(ports, h.Name)
			}
		}
		interfaces = append(interfaces, object{"name": seg.name, "mac": seg.mac.String(), "addresses": addresses, "ports": ports})
	}
	c := object{
		"listen": object{
			"grpc":     controllerAddress(agentsPort),
			"operator": "unix:" + l.paths.operator(),
			"openflow": controllerAddress(openflowPort),
		},
		"state": l.paths.join(ControllerHost, "controller.db"),
		"pools": pools,
		"switches": []object{{
			"dpid":       fmt.Sprintf("%016x", datapathID),
			"steering":   o.Steering,
			"interfaces": interfaces,
		}},
	}
	var services []object
	for _, a := range applications(o) {
		s := object{"name": a.Service, "vips": a.service.VIPs(), "port": a.service.Port}
		if o.SteerAfter != nil {
			s["steer_after"] = o.SteerAfter.String()
		}
		services = append(services, s)
	}
	c["services"] = services
	l.trust(c, ControllerHost)
	if o.TLS {
		c["openflow_tls"] = true
	}
	return c
}

func (l *Lab) agentConfig(h Host) object {
	c := object{
		"node":       h.Name,
		"roles":      []string{string(h.Role)},
		"interface":  DataLink,
		"controller": controllerAddress(agentsPort),
		"listen":     netip.AddrPortFrom(h.Management, transferPort).String(),
	}
	if h.Role == RoleServer {
		var apps []object
		for _, a := range applications(l.st.Options) {
			apps = append(apps, a.config(l, h))
		}
		c["applications"] = apps
	}
	l.trust(c, h.Name)
	return c
}

// trust adds how a daemon and its peers prove who they are.
func (l *Lab) trust(c object, host string) {
	if !l.st.Options.TLS {
		c["insecure"] = true
		return
	}
	c["tls"] = object{"cert": l.paths.certificate(host), "key": l.paths.key(host), "ca": l.paths.authority()}
}

// writeConfig writes a host's configuration file and returns its path.
func (l *Lab) writeConfig(host string, c object) (string, error) {
	text, err := yaml.Marshal(c)
	if err != nil {
		return "", fmt.Errorf("write the configuration of %s: %w", host, err)
	}
	path := l.paths.config(host)
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return "", fmt.Errorf("write the configuration of %s: %w", host, err)
	}
	if err := os.WriteFile(path, text, 0o644); err != nil {
		return "", fmt.Errorf("write the configuration of %s: %w", host, err)
	}
	return path, nil
}
