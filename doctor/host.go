package doctor

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// sysctl reads one of the calling thread's network namespace, "" if the kernel
// has none of that name.
func sysctl(name string) string {
	b, err := os.ReadFile(filepath.Join("/proc/sys", name))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(b))
}

// number is a sysctl's value, def if there is none.
func number(name string, def int) int {
	if n, err := strconv.Atoi(sysctl(name)); err == nil {
		return n
	}
	return def
}

// checkSysctls holds those that matter to Shunt. What is not here does not: a
// node forwards nothing (ip_forward), binds under a local route
// (ip_nonlocal_bind), and restores the options that a connection has whatever
// the host's are (tcp_timestamps, tcp_window_scaling, tcp_sack).
func (r *Report) checkSysctls(iface string, dispatcher bool) {
	if dispatcher {
		// The negotiation of ECN is not carried: see agent/tcprepair.
		if n := number("net/ipv4/tcp_ecn", 0); n != 0 {
			r.warn("tcp-ecn", "", "sysctl -w net.ipv4.tcp_ecn=0", "net.ipv4.tcp_ecn is %d: a connection that negotiated ECN would not echo congestion marks after its move", n)
		} else {
			r.ok("tcp-ecn", "", "connections are accepted without ECN")
		}
		if n := number("net/core/somaxconn", 4096); n < 1024 {
			r.warn("somaxconn", "", "sysctl -w net.core.somaxconn=4096", "net.core.somaxconn is %d: bursts of new connections overflow the listener's queue", n)
		} else {
			r.ok("somaxconn", "", "%d connections may wait to be accepted", n)
		}
		if n := number("net/ipv4/tcp_abort_on_overflow", 0); n != 0 {
			r.fail("tcp-abort-on-overflow", "", "sysctl -w net.ipv4.tcp_abort_on_overflow=0", "clients are reset when the listener's queue overflows")
		} else {
			r.ok("tcp-abort-on-overflow", "", "a full queue makes clients try again")
		}
	}
	// An RST that the kernel throttles or a TIME-WAIT that it drops early is no
	// harm, but sessions that a tracker takes for invalid do not live.
	switch sysctl("net/netfilter/nf_conntrack_tcp_loose") {
	case "0":
		r.fail("conntrack-loose", "", "sysctl -w net.netfilter.nf_conntrack_tcp_loose=1, or exempt session addresses from tracking", "the host's connection tracker takes a connection that was moved here for invalid")
	default:
		r.ok("conntrack-loose", "", "no tracker refuses connections that began elsewhere")
	}
	filter := max(number("net/ipv4/conf/all/rp_filter", 0), number("net/ipv4/conf/"+iface+"/rp_filter", 0))
	switch {
	case filter == 1 && !r.routesBy(iface):
		r.fail("rp-filter", iface, "sysctl -w net.ipv4.conf.all.rp_filter=2 net.ipv4.conf."+iface+".rp_filter=2, or make the default route lead by "+iface,
			"packets of clients come in by %s, but the way back to clients does not lead there: they are dropped", iface)
	default:
		r.ok("rp-filter", iface, "packets of clients are taken")
	}
}

// minFiles is how many sessions a node should be able to hold.
const minFiles = 65536

func (r *Report) checkFiles() {
	var limit unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &limit); err != nil {
		return
	}
	if limit.Max < minFiles {
		r.warn("nofile", "", "raise LimitNOFILE of the unit, or ulimit -Hn", "at most %d files may be open: that bounds the sessions that a dispatcher or a relay holds at once", limit.Max)
		return
	}
	r.ok("nofile", "", "up to %d files may be open", limit.Max)
}

// checkClock warns of a clock that nobody keeps: certificates have dates.
func (r *Report) checkClock() {
	var t unix.Timex
	state, err := unix.Adjtimex(&t)
	switch {
	case err != nil:
		r.warn("clock", "", "", "could not be read: %v", err)
	case state == unix.TIME_ERROR:
		r.warn("clock", "", "run an NTP client, such as chrony or systemd-timesyncd", "the clock is not kept: certificates may seem expired or not yet valid, and logs of nodes do not match")
	default:
		r.ok("clock", "", "kept, within %d ms", t.Maxerror/1000)
	}
}
