package lab

// Info describes a lab to scripts.
type Info struct {
	Name    string  `json:"name"`
	Service Service `json:"service"`
	// Applications are those of every server, with the services that they answer.
	Applications []ApplicationInfo `json:"applications"`
	Hosts        []HostInfo        `json:"hosts"`
	Switch       SwitchInfo        `json:"switch"`
	// Operator is the controller's address for the operator's verbs, as in
	// the variable SHUNT_CONTROLLER.
	Operator string `json:"operator"`
	// Logs is the directory of the daemons' logs, HOST-DAEMON.log.
	Logs string `json:"logs"`
}

// ApplicationInfo is a program that every server runs.
type ApplicationInfo struct {
	Application
	Port uint16 `json:"port"` // of the service, and of the program on each server
}

// HostInfo is a host and its daemons.
type HostInfo struct {
	Host
	// PIDs are the daemons that run, by name.
	PIDs map[string]int `json:"pids"`
}

// SwitchInfo describes the switch.
type SwitchInfo struct {
	// Kind is SwitchSim or SwitchOVS.
	Kind string `json:"kind"`
	// Steering is flows or conntrack; before the controller has chosen, auto.
	Steering string `json:"steering"`
	// OpenFlow is where ovs-ofctl reaches the switch.
	OpenFlow string `json:"openflow"`
}

// Info describes the lab as it is now.
func (l *Lab) Info() Info {
	l.mu.Lock()
	defer l.mu.Unlock()
	info := Info{
		Name:     l.st.Options.Name,
		Service:  l.st.Service,
		Switch:   SwitchInfo{Kind: l.st.Options.Switch, Steering: l.st.Steering, OpenFlow: "unix:" + l.paths.simSocket()},
		Operator: l.operator(),
		Logs:     l.paths.join("log"),
	}
	if info.Switch.Kind == SwitchOVS {
		info.Switch.OpenFlow = "unix:" + l.paths.bridgeSocket()
	}
	if info.Switch.Steering == "" {
		info.Switch.Steering = l.st.Options.Steering
	}
	for _, a := range applications(l.st.Options) {
		info.Applications = append(info.Applications, ApplicationInfo{a.Application, a.service.Port})
	}
	for _, h := range l.st.Hosts {
		hi := HostInfo{Host: h, PIDs: map[string]int{}}
		for _, d := range l.st.Daemons {
			if d.Host == h.Name && d.Process.Alive() {
				hi.PIDs[d.Name] = d.Process.PID
			}
		}
		info.Hosts = append(info.Hosts, hi)
	}
	return info
}

func (l *Lab) operator() string { return "unix:" + l.paths.operator() }
