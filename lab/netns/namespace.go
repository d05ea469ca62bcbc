package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"

	vns "github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Dir is where named network namespaces are mounted, as iproute2 has it.
const Dir = "/run/netns"

// Create makes the namespace name, with its loopback down.
func Create(name string) error {
	if err := share(); err != nil {
		return err
	}
	err := onThread(func() error {
		h, err := vns.NewNamed(name)
		if err != nil {
			return err
		}
		return h.Close()
	})
	if errors.Is(err, fs.ErrExist) {
		return fmt.Errorf("make network namespace %s: it exists; remove it with `ip netns del %s` if nothing uses it", name, name)
	}
	if err != nil {
		return fmt.Errorf("make network namespace %s (needs root): %w", name, err)
	}
	return nil
}

// share makes Dir a shared mount, as `ip netns add` does, so that a namespace
// deleted here vanishes from the private mount namespaces of commands too.
func share() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return fmt.Errorf("make %s: %w", Dir, err)
	}
	err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if errors.Is(err, unix.EINVAL) { // not a mount point yet
		if err = unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err == nil {
			err = unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
		}
	}
	if err != nil {
		return fmt.Errorf("make %s a shared mount (needs root): %w", Dir, err)
	}
	return nil
}

// Delete removes the name. The namespace itself ends with its last process.
// A name that does not exist is no error.
func Delete(name string) error {
	path := filepath.Join(Dir, name)
	if err := unix.Unmount(path, unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) && !errors.Is(err, unix.ENOENT) {
		return fmt.Errorf("unmount network namespace %s: %w", name, err)
	}
	if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("remove network namespace %s: %w", name, err)
	}
	return nil
}

// Unshare takes back what the first Create did to Dir, when no namespace is
// left. It never fails: a Dir in use stays as it is.
func Unshare() {
	if names, err := os.ReadDir(Dir); err == nil && len(names) == 0 {
		_ = unix.Unmount(Dir, unix.UMOUNT_NOFOLLOW) // EBUSY while anything is mounted below it
	}
}

// Names lists the named namespaces that match.
func Names(match func(name string) bool) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if match(e.Name()) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}

// Do runs f on a thread inside the namespace and waits for it. Sockets that f
// opens and processes that it starts belong to the namespace for good;
// goroutines that f starts do not run in it.
func Do(name string, f func() error) error {
	return onThread(func() error {
		if err := enter(name); err != nil {
			return err
		}
		return f()
	})
}

func enter(name string) error {
	h, err := vns.GetFromName(name)
	if err != nil {
		return fmt.Errorf("open network namespace %s: %w", name, err)
	}
	defer h.Close()
	if err := vns.Set(h); err != nil {
		return fmt.Errorf("enter network namespace %s (needs root): %w", name, err)
	}
	return nil
}

// onThread runs f on an operating system thread that dies afterwards, so that
// nothing else ever runs in a namespace that f entered.
func onThread(f func() error) error {
	errc := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the thread dies with the goroutine
		errc <- f()
	}()
	return <-errc
}
