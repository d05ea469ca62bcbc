package packaging

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"runtime"
	"strings"
	"time"
)

// Options say what to build.
type Options struct {
	Root    string // the source tree
	Version string // "": the commit's, see docs/install.md
	Arch    string // as Go and Debian both call it: amd64, arm64; "": this machine's
}

// Packages are what was built.
type Packages struct {
	Version string
	Arch    string
	Deb     []byte
	Image   []byte // an OCI image layout in a tar archive
}

// DebName is the Debian package's usual file name.
func (p *Packages) DebName() string { return fmt.Sprintf("shunt_%s_%s.deb", p.Version, p.Arch) }

// ImageName is the image's file name.
func (p *Packages) ImageName() string { return fmt.Sprintf("shunt_%s_%s.oci.tar", p.Version, p.Arch) }

// Build compiles the source tree and makes the packages.
func Build(ctx context.Context, o Options) (*Packages, error) {
	version, when, err := describe(ctx, o.Root)
	if err != nil {
		return nil, err
	}
	if o.Version != "" {
		version = o.Version
	}
	if o.Arch == "" {
		o.Arch = runtime.GOARCH
	}
	dir, err := os.MkdirTemp("", "shunt-package")
	if err != nil {
		return nil, fmt.Errorf("make a directory to build in: %w", err)
	}
	defer os.RemoveAll(dir)
	b := &builder{Options: o, dir: dir, version: version, when: when}
	tree, err := b.tree(ctx)
	if err != nil {
		return nil, err
	}
	scripts, err := b.scripts()
	if err != nil {
		return nil, err
	}
	p := &Packages{Version: version, Arch: o.Arch}
	if p.Deb, err = (Deb{Control: b.control(), Scripts: scripts, Tree: tree, When: when}).Bytes(); err != nil {
		return nil, err
	}
	if p.Image, err = image(b.program, o.Arch, version, when); err != nil {
		return nil, err
	}
	return p, nil
}

// builder holds what the steps of one build share.
type builder struct {
	Options
	dir     string // for what is made on the way
	version string
	when    time.Time
	program []byte // the binary
	library bool   // the preload library is in the tree
}

func (b *builder) control() []Field {
	depends := "passwd"
	recommends := "ca-certificates"
	if b.library {
		depends += ", libc6 (>= 2.34)"
	}
	return []Field{
		{"Package", "shunt"},
		{"Version", b.version},
		{"Architecture", b.Arch},
		{"Maintainer", "The Shunt authors <shunt@shunt-sdn.invalid>"},
		{"Section", "net"},
		{"Priority", "optional"},
		{"Depends", depends},
		{"Recommends", recommends},
		{"Suggests", "openvswitch-switch"},
		{"Homepage", "https://github.com/shunt-sdn/shunt"},
		{"Description", `layer 7 dispatcher that hands live TCP connections over
 Shunt accepts HTTP connections, reads the request, chooses a server by policy,
 and moves the live TCP connection there: same client, same connection, no proxy
 left in either direction. Packets are forwarded by Open vSwitch or another
 OpenFlow 1.3 switch.
 .
 The package has the controller, the agent of dispatchers and servers, and the
 operator's commands. Neither daemon is started before it is configured.`},
	}
}

func (b *builder) scripts() (map[string][]byte, error) {
	out := map[string][]byte{}
	for _, name := range []string{"postinst", "prerm", "postrm"} {
		body, err := fs.ReadFile(files, "debian/"+name)
		if err != nil {
			return nil, fmt.Errorf("read a maintainer script: %w", err)
		}
		out[name] = body
	}
	return out, nil
}

// tree makes everything that is installed.
func (b *builder) tree(ctx context.Context) (Tree, error) {
	var tree Tree
	var errs []error
	for _, step := range []func(context.Context) (Tree, error){b.programs, b.generated, b.preload, b.written, b.documents} {
		part, err := step(ctx)
		tree = append(tree, part...)
		if err != nil {
			return nil, errors.Join(append(errs, err)...)
		}
	}
	return tree, nil
}

// programs compiles the binary: static, without paths of this machine.
func (b *builder) programs(ctx context.Context) (Tree, error) {
	out := filepath.Join(b.dir, "shunt")
	if err := b.compile(ctx, b.Arch, out); err != nil {
		return nil, err
	}
	body, err := os.ReadFile(out)
	if err != nil {
		return nil, fmt.Errorf("read the program: %w", err)
	}
	b.program = body
	return Tree{{Path: "/usr/bin/shunt", Mode: 0o755, Body: body}}, nil
}

func (b *builder) compile(ctx context.Context, arch, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-buildvcs=false",
		"-ldflags=-s -w -buildid= -X main.stamp="+b.version, "-o", out, "./cmd/shunt")
	cmd.Dir = b.Root
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOOS=linux", "GOARCH="+arch, "GOFLAGS=", "GOAMD64=v1", "GOARM64=v8.0")
	if message, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("compile shunt for %s: %w\n%s", arch, err, message)
	}
	return nil
}

// generated has the binary write what is derived from its commands.
func (b *builder) generated(ctx context.Context) (Tree, error) {
	program := filepath.Join(b.dir, "shunt")
	if b.Arch != runtime.GOARCH {
		program += "-here"
		if err := b.compile(ctx, runtime.GOARCH, program); err != nil {
			return nil, err
		}
	}
	run := func(args ...string) ([]byte, error) {
		cmd := exec.CommandContext(ctx, program, args...)
		cmd.Env = []string{} // defaults of flags that come from variables are not ours
		var stderr bytes.Buffer
		cmd.Stderr = &stderr
		out, err := cmd.Output()
		if err != nil {
			return nil, fmt.Errorf("shunt %s: %w\n%s", strings.Join(args, " "), err, &stderr)
		}
		return out, nil
	}
	var tree Tree
	for shell, at := range map[string]string{
		"bash": "/usr/share/bash-completion/completions/shunt",
		"zsh":  "/usr/share/zsh/vendor-completions/_shunt",
		"fish": "/usr/share/fish/vendor_completions.d/shunt.fish",
	} {
		body, err := run("completion", shell)
		if err != nil {
			return nil, err
		}
		tree = append(tree, File{Path: at, Mode: 0o644, Body: body})
	}
	pages := filepath.Join(b.dir, "man")
	if _, err := run("man", "--date", b.when.Format(time.DateOnly), "--source", b.Root, pages); err != nil {
		return nil, err
	}
	entries, err := os.ReadDir(pages)
	if err != nil {
		return nil, fmt.Errorf("read the manual pages: %w", err)
	}
	for _, e := range entries {
		body, err := os.ReadFile(filepath.Join(pages, e.Name()))
		if err != nil {
			return nil, fmt.Errorf("read the manual pages: %w", err)
		}
		z, err := compress(body)
		if err != nil {
			return nil, err
		}
		section := e.Name()[strings.LastIndexByte(e.Name(), '.')+1:]
		tree = append(tree, File{Path: "/usr/share/man/man" + section + "/" + e.Name() + ".gz", Mode: 0o644, Body: z})
	}
	return tree, nil
}

// preload compiles the library that takes over an application's accept, if this
// tree has it. It is for this machine's architecture only.
func (b *builder) preload(ctx context.Context) (Tree, error) {
	dir := filepath.Join(b.Root, "preload")
	if _, err := os.Stat(filepath.Join(dir, "Makefile")); err != nil || b.Arch != runtime.GOARCH {
		return nil, nil
	}
	cmd := exec.CommandContext(ctx, "make", "-C", dir, "OUT="+b.dir, "CFLAGS=-O2 -fstack-protector-strong -ffile-prefix-map="+dir+"=.", "LDFLAGS=-Wl,--build-id=none -s")
	if message, err := cmd.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("compile libshunt.so: %w\n%s", err, message)
	}
	body, err := os.ReadFile(filepath.Join(b.dir, "libshunt.so"))
	if err != nil {
		return nil, fmt.Errorf("read libshunt.so: %w", err)
	}
	b.library = true
	return Tree{{Path: "/usr/lib/shunt/libshunt.so", Mode: 0o644, Body: body}}, nil
}

// written are the files that are written by hand.
func (b *builder) written(context.Context) (Tree, error) {
	var tree Tree
	for from, to := range map[string]string{"systemd": "/lib/systemd/system", "etc": "/etc/shunt"} {
		entries, err := fs.ReadDir(files, from)
		if err != nil {
			return nil, fmt.Errorf("read the files of the package: %w", err)
		}
		for _, e := range entries {
			body, err := fs.ReadFile(files, path.Join(from, e.Name()))
			if err != nil {
				return nil, fmt.Errorf("read the files of the package: %w", err)
			}
			tree = append(tree, File{Path: path.Join(to, e.Name()), Mode: 0o644, Body: body, Conffile: from == "etc"})
		}
	}
	return tree, nil
}

// documents are what Debian wants in every package, and the project's.
func (b *builder) documents(context.Context) (Tree, error) {
	const at = "/usr/share/doc/shunt/"
	copyright, err := fs.ReadFile(files, "debian/copyright")
	if err != nil {
		return nil, fmt.Errorf("read the copyright: %w", err)
	}
	changes, err := compress(fmt.Appendf(nil, "shunt (%s) unstable; urgency=medium\n\n  * See the project's history.\n\n -- The Shunt authors <shunt@shunt-sdn.invalid>  %s\n",
		b.version, b.when.Format(time.RFC1123Z)))
	if err != nil {
		return nil, err
	}
	tree := Tree{
		{Path: at + "copyright", Mode: 0o644, Body: copyright},
		// On purpose: one file that runs on any machine and in any image.
		{Path: "/usr/share/lintian/overrides/shunt", Mode: 0o644, Body: []byte("shunt: statically-linked-binary [usr/bin/shunt]\n")},
		{Path: at + "changelog.gz", Mode: 0o644, Body: changes},
	}
	pages, err := filepath.Glob(filepath.Join(b.Root, "docs", "*.md"))
	if err != nil {
		return nil, fmt.Errorf("find the documents: %w", err)
	}
	for _, p := range pages {
		body, err := os.ReadFile(p)
		if err != nil {
			return nil, fmt.Errorf("read the documents: %w", err)
		}
		tree = append(tree, File{Path: at + filepath.Base(p), Mode: 0o644, Body: body})
	}
	return tree, nil
}
