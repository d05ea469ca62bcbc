package main

// A proseSection is a part of a manual page that no flag says.
type proseSection struct {
	title   string
	entries [][2]string // a term and what it means
}

// What both daemons answer to.
var (
	daemonSignals = proseSection{"SIGNALS", [][2]string{
		{"SIGTERM, SIGINT", "Stop in good order."},
	}}
	daemonStatus = proseSection{"EXIT STATUS", [][2]string{
		{"0", "Stopped by a signal."},
		{"1", "Something failed; the last line on standard error says what."},
		{"78", "The configuration is wrong (EX_CONFIG): starting again does not help."},
	}}
	daemonNotify = proseSection{"ENVIRONMENT", [][2]string{
		{"NOTIFY_SOCKET", "Where a service manager hears that the daemon is up or stopping: see sd_notify(3)."},
	}}
	operatorEnvironment = [][2]string{
		{"SHUNT_CONTROLLER", "The controller's address for the operator's commands, unix:/path or host:port."},
		{"SHUNT_TLS_CERT, SHUNT_TLS_KEY, SHUNT_TLS_CA", "Files of the operator's certificate, its key, and the cluster's authority."},
	}
)

// prose is by command.
var prose = map[string][]proseSection{
	"shunt": {
		{"ENVIRONMENT", operatorEnvironment},
		{"EXIT STATUS", [][2]string{{"0", "Done."}, {"1", "Something failed."}}},
	},
	"controller": {
		{"FILES", [][2]string{
			{"/etc/shunt/controller.yaml", "The configuration: see shunt.yaml(5)."},
			{"/var/lib/shunt/controller.db", "Leases of session addresses and the nodes that were seen. Without it sessions that run break when the controller starts."},
			{"/run/shunt/controller.sock", "For operators on this host."},
		}},
		daemonSignals, daemonStatus, daemonNotify,
	},
	"agent": {
		{"FILES", [][2]string{
			{"/etc/shunt/agent.yaml", "The configuration: see shunt.yaml(5)."},
		}},
		{"CAPABILITIES", [][2]string{
			{"CAP_NET_ADMIN", "For TCP_REPAIR, the local routes of session addresses, the guard, and to hear of sockets that end."},
			{"CAP_NET_BIND_SERVICE", "For session addresses with a port below 1024."},
			{"CAP_NET_RAW", "To make the clients of lost sessions speak, so that they are told."},
			{"CAP_DAC_OVERRIDE", "To reach the sockets of preloaded servers, which belong to the users that these run as."},
			{"CAP_BPF", "To load the guard."},
			{"CAP_SYS_ADMIN", "To find the guard of an agent that was killed."},
		}},
		daemonSignals, daemonStatus, daemonNotify,
	},
	"doctor": {
		{"EXIT STATUS", [][2]string{
			{"0", "No check failed; there may be warnings."},
			{"1", "A check failed."},
			{"2", "The command line is wrong, or nothing could be checked."},
		}},
	},
}
