// Command mkpackages builds Shunt's Debian package and container image from
// the source tree that it stands in.
package main

import (
	"context"
	"crypto/sha256"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"

	"github.com/shunt-sdn/shunt/packaging"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGINT, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		stop()
		fmt.Fprintln(os.Stderr, "mkpackages:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context) error {
	var o packaging.Options
	dir := flag.String("o", "dist", "where to put the packages, a `directory`")
	flag.StringVar(&o.Root, "root", ".", "the source tree, a `directory`")
	flag.StringVar(&o.Version, "version", "", "version instead of the commit's")
	flag.StringVar(&o.Arch, "arch", "", "architecture, such as arm64, instead of this machine's")
	flag.Parse()
	root, err := filepath.Abs(o.Root)
	if err != nil {
		return err
	}
	o.Root = root
	p, err := packaging.Build(ctx, o)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(*dir, 0o755); err != nil {
		return err
	}
	for name, body := range map[string][]byte{p.DebName(): p.Deb, p.ImageName(): p.Image} {
		path := filepath.Join(*dir, name)
		if err := os.WriteFile(path, body, 0o644); err != nil {
			return err
		}
		fmt.Printf("%x  %s\n", sha256.Sum256(body), path)
	}
	return nil
}
