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

// relayTarget is where the application waits for relayed connections.
const relayTarget = "127.0.0.1:8080"

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
	service := object{"name": l.st.Service.Name, "vips": l.st.Service.VIPs(), "port": l.st.Service.Port}
	if o.SteerAfter != nil {
		service["steer_after"] = o.SteerAfter.String()
	}
	c["services"] = []object{service}
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
		app := object{"service": l.st.Service.Name, "attach": l.st.Options.Attach, "direct": directOf(h, l.st.Service)[0]}
		switch l.st.Options.Attach {
		case AttachListener:
			app["socket"] = l.paths.attachment(h.Name)
		case AttachPreload:
			app["socket"] = l.paths.attachment(h.Name)
			app["connect"] = directOf(h, l.st.Service)[0]
			if direct := directOf(h, l.st.Service); len(direct) > 1 {
				app["connect6"] = direct[1]
			}
		case AttachRelay:
			app["connect"] = relayTarget
			if f := l.st.Options.Forwarded; f != "" {
				app["forwarded"] = f
			}
			if l.st.Options.App != AppBuiltin {
				app["connect"] = directOf(h, l.st.Service)[0]
			}
		}
		c["applications"] = []object{app}
	}
	l.trust(c, h.Name)
	return c
}

// directOf lists where a server's application accepts ordinary connections.
func directOf(h Host, s Service) []string {
	var out []string
	for _, a := range h.Addresses {
		out = append(out, netip.AddrPortFrom(a, s.Port).String())
	}
	return out
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
