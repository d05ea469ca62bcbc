package main

import (
	"os"
	"runtime/debug"
)

// relaxGC lets a daemon's heap, which is a few megabytes, grow fivefold between
// collections, unless the environment says otherwise: each collection costs a
// processor that a hand-off may be waiting for.
func relaxGC() {
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(400)
	}
}
