// Package e2e tests Shunt as a whole: labs with real clients, a real or a
// simulated switch, and the daemons as they are shipped.
package e2e
