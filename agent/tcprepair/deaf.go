package tcprepair

import (
	"errors"
	"fmt"
	"sync"

	"github.com/cilium/ebpf"
	"github.com/cilium/ebpf/asm"
	"golang.org/x/sys/unix"
)

// dropAll is a program of classic BPF that keeps 0 bytes of each packet. The
// kernel only reads it.
var dropAll = [1]unix.SockFilter{{Code: unix.BPF_RET | unix.BPF_K, K: 0}}

// shared is the same as an eBPF program that every deaf socket refers to: the
// kernel compiles a classic program anew for each socket, which takes longer
// than all the rest of Freeze. It is nil where the process may not load it.
var shared = sync.OnceValue(func() *ebpf.Program {
	p, err := ebpf.NewProgram(&ebpf.ProgramSpec{
		Name: "shunt_deaf", Type: ebpf.SocketFilter, License: "Apache-2.0",
		Instructions: asm.Instructions{asm.Mov.Imm(asm.R0, 0), asm.Return()},
	})
	if err != nil {
		return nil
	}
	return p
})

// deafen makes the kernel drop what arrives for the socket.
func deafen(fd int) error {
	if p := shared(); p != nil {
		if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_ATTACH_BPF, p.FD()); err == nil {
			return nil
		}
	}
	prog := unix.SockFprog{Len: uint16(len(dropAll)), Filter: &dropAll[0]}
	if err := unix.SetsockoptSockFprog(fd, unix.SOL_SOCKET, unix.SO_ATTACH_FILTER, &prog); err != nil {
		return fmt.Errorf("attach a socket filter: %w", err)
	}
	return nil
}

func undeafen(fd int) error {
	err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_DETACH_FILTER, 0)
	if err != nil && !errors.Is(err, unix.ENOENT) { // ENOENT: it has none
		return fmt.Errorf("detach the socket filter: %w", err)
	}
	return nil
}
