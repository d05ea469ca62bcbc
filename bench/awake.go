package main

import (
	"encoding/binary"
	"fmt"
	"os"
)

// stayAwake keeps idle processors from halting while the returned file is open
// (Documentation/power/pm_qos_interface.rst), as profiles for low latency do. A
// virtual processor that halts leaves the machine, and to come back costs more
// than what is measured here, each time that a process waits for another one.
func stayAwake() (*os.File, error) {
	f, err := os.OpenFile("/dev/cpu_dma_latency", os.O_WRONLY, 0)
	if err != nil {
		return nil, fmt.Errorf("keep processors awake (-sleep lets them halt): %w", err)
	}
	if err := binary.Write(f, binary.NativeEndian, int32(0)); err != nil { // microseconds to wake up
		f.Close()
		return nil, fmt.Errorf("keep processors awake (-sleep lets them halt): %w", err)
	}
	return f, nil
}
