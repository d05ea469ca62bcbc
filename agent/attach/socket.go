package attach

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"syscall"

	"github.com/shunt-sdn/shunt/internal/handoffproto"
)

// socketMode lets the socket's owner and group connect. The group is the
// agent's, or that of a directory with the set-group-ID bit.
const socketMode = 0o660

// socketFile is a listening socket and its place in the file system.
type socketFile struct {
	*net.UnixListener
	path string
	dev  uint64
	ino  uint64
}

// bindSocket listens at the path. What a crashed agent left there goes away;
// a socket that somebody listens at, or another kind of file, is an error.
func bindSocket(ctx context.Context, path string) (*socketFile, error) {
	fail := func(err error) (*socketFile, error) {
		return nil, fmt.Errorf("listen for applications at %s: %w", path, err)
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err)
	}
	if err := removeStale(ctx, path); err != nil {
		return fail(err)
	}
	// The socket's own mode becomes that of the file: it is never wider, not
	// even for the moment before chmod. Source: Linux net/unix/af_unix.c, unix_bind_bsd.
	lc := net.ListenConfig{Control: func(_, _ string, c syscall.RawConn) error {
		var err error
		if cerr := c.Control(func(fd uintptr) { err = syscall.Fchmod(int(fd), socketMode) }); cerr != nil {
			return cerr
		}
		return err
	}}
	l, err := lc.Listen(ctx, handoffproto.Network, path)
	if err != nil {
		return fail(err)
	}
	s := &socketFile{UnixListener: l.(*net.UnixListener), path: path}
	s.SetUnlinkOnClose(false) // it may be a successor's by then
	err = os.Chmod(path, socketMode)
	if err == nil {
		s.dev, s.ino, err = identity(path)
	}
	if err != nil {
		s.UnixListener.Close()
		os.Remove(path)
		return fail(err)
	}
	return s, nil
}

// Close stops listening and removes the file, if it is still this one.
func (s *socketFile) Close() error {
	if dev, ino, err := identity(s.path); err == nil && dev == s.dev && ino == s.ino {
		os.Remove(s.path)
	}
	return s.UnixListener.Close()
}

func removeStale(ctx context.Context, path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return errors.New("there is a file of another kind at this place; remove it or configure another path")
	}
	var d net.Dialer
	c, err := d.DialContext(ctx, handoffproto.Network, path)
	if err == nil {
		c.Close()
	}
	if !errors.Is(err, syscall.ECONNREFUSED) {
		return errors.New("another process listens there; stop it or configure another path")
	}
	return os.Remove(path)
}

func identity(path string) (dev, ino uint64, err error) {
	var st syscall.Stat_t
	if err := syscall.Lstat(path, &st); err != nil {
		return 0, 0, &fs.PathError{Op: "stat", Path: path, Err: err}
	}
	return uint64(st.Dev), st.Ino, nil
}
