// Package agent is the daemon on every dispatcher and server node. It holds the
// session addresses on the host, keeps the guard on the data interface, hands
// sessions over and takes them in, and tells the controller.
package agent
