// Package lab builds a Shunt cluster on one machine: network namespaces for
// clients, dispatchers, servers, a switch and the controller, the links between
// them, a management network that does not cross the switch, the daemons, and
// real web servers.
//
//	client1 ─┐                     ┌─ dispatcher1 ─┐
//	  …      ├─ interface clients  │     …         │
//	         │        switch       │               ├─ mgmt0 ─ controller
//	         └─ interface nodes ───┼─ server1 ─────┤   (and the switch)
//	                               └─   …        ──┘
//
// A lab belongs to the machine, not to the program that made it: it is found
// again by its name (Load) and lives until Down, which also removes what a
// crash in the middle of Up has left. Everything about it is below Dir/NAME,
// in namespaces shunt-NAME-HOST, and in the processes within those.
package lab
