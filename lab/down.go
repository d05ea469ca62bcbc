package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"time"

	"github.com/shunt-sdn/shunt/lab/netns"
	"github.com/shunt-sdn/shunt/lab/process"
)

// grace is how long daemons have to end by themselves.
const grace = 2 * time.Second

// Down ends every process of the lab, also those that commands started in its
// namespaces, and removes namespaces, links and files. It may be called again.
func (l *Lab) Down(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	mine := map[int]bool{}
	for pid := os.Getpid(); pid > 1; pid = process.Parent(pid) { // `lab exec HOST -- shunt lab down`
		mine[pid] = true
	}
	// Agents before what they depend on would be an order; but all of it goes
	// at once, and nothing outlives it.
	var daemons []process.ID
	for _, d := range l.st.Daemons {
		daemons = append(daemons, d.Process)
	}
	errs := []error{process.Stop(ctx, grace, daemons...)}

	names, err := netns.Names(netnsOf(l.st.Options.Name))
	errs = append(errs, err)
	for _, name := range names {
		errs = append(errs, empty(ctx, name, mine), netns.Delete(name))
	}
	netns.Unshare()
	l.children.Wait()
	if err := errors.Join(errs...); err != nil {
		return err // the files say what is left
	}
	if err := l.paths.remove(); err != nil {
		return fmt.Errorf("remove the lab's directory: %w", err)
	}
	for dir := Dir; dir != "/run"; dir = filepath.Dir(dir) {
		if os.Remove(dir) != nil {
			break // another lab, or another program of ours
		}
	}
	return nil
}

// empty ends the processes in a namespace, except those in spare.
func empty(ctx context.Context, name string, spare map[int]bool) error {
	for range 10 { // what is killed may have been forking
		pids, err := netns.Processes(name)
		if err != nil {
			return err
		}
		pids = slices.DeleteFunc(pids, func(pid int) bool { return spare[pid] })
		if len(pids) == 0 {
			return nil
		}
		var ids []process.ID
		for _, pid := range pids {
			if id, err := process.Identify(pid); err == nil {
				ids = append(ids, id)
			}
		}
		if err := process.Stop(ctx, grace, ids...); err != nil {
			return err
		}
	}
	return fmt.Errorf("processes in network namespace %s keep starting others", name)
}
