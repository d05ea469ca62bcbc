package e2e

import (
	"context"
	"os"
	"path/filepath"
	"time"

	"go.yaml.in/yaml/v3"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
)

// configure changes a daemon's file.
func (c *cluster) configure(host string, change func(map[string]any)) {
	c.t.Helper()
	path := filepath.Join(lab.Dir, c.Name(), host, "config.yaml")
	b, err := os.ReadFile(path)
	if err != nil {
		c.t.Fatal(err)
	}
	conf := make(map[string]any)
	if err := yaml.Unmarshal(b, &conf); err != nil {
		c.t.Fatal(err)
	}
	change(conf)
	if b, err = yaml.Marshal(conf); err != nil {
		c.t.Fatal(err)
	}
	if err := os.WriteFile(path, b, 0o644); err != nil {
		c.t.Fatal(err)
	}
}

// restart ends a daemon and starts it again.
func (c *cluster) restart(host, name string) {
	c.t.Helper()
	if err := c.Signal(host, name, unix.SIGTERM); err != nil {
		c.t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(c.t.Context(), 15*time.Second)
	defer cancel()
	if err := c.WaitExit(ctx, host, name); err != nil {
		c.t.Fatal(err)
	}
	if err := c.Start(host, name); err != nil {
		c.t.Fatal(err)
	}
}
