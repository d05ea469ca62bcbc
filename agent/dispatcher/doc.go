// Package dispatcher accepts a service's connections, reads each one's first
// request head without consuming it, chooses a server, and hands the live
// connection over. What the state machine in agent/migration decides, this
// package performs.
package dispatcher
