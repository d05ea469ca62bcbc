package main

import (
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/shunt-sdn/shunt/lab/app"
)

// newContentCommand writes the documents that the Go server computes, for the
// servers that serve files: all three answer alike.
func newContentCommand() *cobra.Command {
	cmd := &cobra.Command{
		Use:   "content DIRECTORY SIZE...",
		Short: "Write the documents bytes/SIZE, the same as the lab's web server has",
		Args:  cobra.MinimumNArgs(2),
	}
	cmd.RunE = func(_ *cobra.Command, args []string) error {
		dir := filepath.Join(args[0], "bytes")
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		for _, arg := range args[1:] {
			size, err := strconv.ParseInt(arg, 10, 64)
			if err != nil || size < 0 || size > app.MaxBytes {
				return fmt.Errorf("size %q: it is a number of octets", arg)
			}
			if err := write(filepath.Join(dir, arg), size); err != nil {
				return err
			}
		}
		return nil
	}
	return cmd
}

func write(path string, size int64) error {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_TRUNC|os.O_WRONLY, 0o644)
	if err != nil {
		return err
	}
	_, err = io.Copy(f, app.NewContent(size))
	if e := f.Close(); err == nil {
		err = e
	}
	return err
}
