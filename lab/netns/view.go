package netns

import (
	"fmt"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// DoView is Do for f that starts a command: /sys/class/net, too, shows the
// namespace's devices, which takes a private mount namespace. scratch is an
// existing, empty directory.
func DoView(name, scratch string, f func() error) error {
	return onThread(func() error {
		if err := EnterView(name, scratch); err != nil {
			return err
		}
		return f()
	})
}

// EnterView moves the calling thread, which the caller has locked and will not
// use for anything else, to where DoView runs its function. A process may
// replace itself with a command afterwards (execve keeps the thread's
// namespaces).
func EnterView(name, scratch string) error {
	if err := enter(name); err != nil {
		return err
	}
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return fmt.Errorf("unshare the mount namespace (needs root): %w", err)
	}
	// Slave, not private: deleted namespaces must vanish here as well.
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return fmt.Errorf("detach the mount namespace: %w", err)
	}
	if err := unix.Mount(name, scratch, "sysfs", 0, ""); err != nil {
		return fmt.Errorf("mount sysfs for network namespace %s: %w", name, err)
	}
	for _, dir := range []string{"class/net", "devices/virtual/net"} {
		if err := unix.Mount(filepath.Join(scratch, dir), filepath.Join("/sys", dir), "none", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("show /sys/%s of network namespace %s: %w", dir, name, err)
		}
	}
	if err := unix.Unmount(scratch, unix.MNT_DETACH); err != nil {
		return fmt.Errorf("unmount %s: %w", scratch, err)
	}
	return nil
}
