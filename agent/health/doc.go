// Package health checks the node's own applications, as the policy's pools want
// it: a request or connection at intervals, and after a number of successes or
// failures in a row a verdict. The agent reports the verdicts to the controller,
// which tells all dispatchers.
//
// The node checks itself so that the work does not grow with the number of
// dispatchers, and so that an application is checked where its agent is; a node
// that is cut off is noticed by its agent's stream.
package health
