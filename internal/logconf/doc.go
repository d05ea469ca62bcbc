// Package logconf makes a daemon's logger: text or JSON lines, with a level for
// the daemon and one for each of its subsystems. A logger belongs to a subsystem
// when it carries the attribute "subsystem"; of several, the last one counts.
// Levels can change while the daemon runs.
package logconf
