// Package netns makes named network namespaces and wires them together: links,
// addresses, routes, rates.
//
// A namespace has a name under /run/netns, where `ip netns` finds it too. It
// outlives the process that made it and ends with Delete, once the processes
// inside are gone. Links end with the namespaces of their ends.
package netns
