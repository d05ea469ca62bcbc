package api

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
)

// ListenUnix listens on a unix socket that only this user may connect to. One
// that a crashed controller left there is replaced; the caller has made sure
// that no other controller is alive. The path is removed on Close.
func ListenUnix(path string) (net.Listener, error) {
	fail := func(err error) (net.Listener, error) {
		return nil, fmt.Errorf("listen for operators on unix:%s: %w; correct listen.operator or its directory's permissions", path, err)
	}
	if info, err := os.Lstat(path); err == nil && info.Mode().Type() != os.ModeSocket {
		return fail(errors.New("the path is not a socket"))
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return fail(err)
	}
	// Made where nobody else gets at it, and moved once the mode is right.
	dir, err := os.MkdirTemp(filepath.Dir(path), ".shunt")
	if err != nil {
		return fail(err)
	}
	defer os.RemoveAll(dir)
	private := filepath.Join(dir, "s")
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: private, Net: "unix"})
	if err != nil {
		return fail(err)
	}
	l.SetUnlinkOnClose(false)
	if err := errors.Join(os.Chmod(private, 0o600), os.Rename(private, path)); err != nil {
		l.Close()
		return fail(err)
	}
	return &unixListener{l, path}, nil
}

type unixListener struct {
	*net.UnixListener
	path string
}

func (u *unixListener) Close() error {
	err := u.UnixListener.Close()
	if err == nil {
		err = os.Remove(u.path)
	}
	return err
}

func (u *unixListener) Addr() net.Addr { return &net.UnixAddr{Name: u.path, Net: "unix"} }
