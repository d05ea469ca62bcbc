//go:build compose

package compose

import (
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// cacheDir keeps, for the next run on this machine, what takes long to make.
const cacheDir = "/var/cache/shunt-compose"

const (
	suite     = "bookworm"
	mirror    = "http://deb.debian.org/debian"
	baseImage = "debian:bookworm-slim"
	goImage   = "golang:1.26"

	keepBase = 30 * 24 * time.Hour // a base system older than this is made anew
)

// importImages gives an engine that cannot pull anything the two images that
// the lab's are built from: a Debian by debootstrap, and the same with this
// machine's Go, its modules and a warm cache.
func importImages(t *testing.T, e *engine) {
	t.Helper()
	if err := os.MkdirAll(cacheDir, 0o755); err != nil {
		t.Fatal(err)
	}
	lock, err := lockDir(cacheDir)
	if err != nil {
		t.Fatalf("another test uses %s: %v", cacheDir, err)
	}
	defer lock.Close()
	goCache := filepath.Join(cacheDir, "go-build")
	built := make(chan error, 1)
	go func() { built <- warm(t, goCache) }()
	begin := time.Now()
	base := debian(t)
	e.importTree(t, baseImage, nil, []string{"--directory=" + base, "."})
	if err := <-built; err != nil {
		t.Fatalf("fill the cache of the compiler: %v", err)
	}
	goRoot, modules := goEnv(t, "GOROOT"), goEnv(t, "GOMODCACHE")
	options := []string{
		"--transform=" + move(goRoot, "usr/local/go"),
		"--transform=" + move(modules, "go/pkg/mod"),
		"--transform=" + move(goCache, "root/.cache/go-build"),
		"--exclude=*_test.go", "--exclude=testdata", "--exclude=." + goRoot + "/test", "--exclude=." + goRoot + "/doc", "--exclude=." + goRoot + "/api",
	}
	names := []string{"--directory=" + base, ".", "--directory=/.", "." + goRoot, "." + goCache}
	for _, path := range moduleFiles(t, modules) {
		names = append(names, "."+path)
	}
	e.importTree(t, goImage, options, names, "ENV PATH=/usr/local/go/bin:/usr/sbin:/usr/bin:/sbin:/bin",
		"ENV GOPATH=/go", "ENV GOTOOLCHAIN=local", "ENV GOPROXY=off", "ENV GOFLAGS=-mod=readonly")
	t.Logf("images to build from: %v", time.Since(begin).Round(time.Second/10))
}

// move is a transformation of file names, not of links' targets, for tar.
func move(from, to string) string {
	return "flags=rh;s,^\\." + from + "\\($\\|/\\),./" + to + "\\1,"
}

// debian returns the directory of a Debian, made if there is none yet.
func debian(t *testing.T) string {
	t.Helper()
	dir := filepath.Join(cacheDir, suite)
	if info, err := os.Stat(dir); err == nil && time.Since(info.ModTime()) < keepBase {
		return dir
	} else if err != nil && !errors.Is(err, fs.ErrNotExist) {
		t.Fatal(err)
	}
	work := dir + ".new"
	for _, d := range []string{dir, work} {
		if err := os.RemoveAll(d); err != nil {
			t.Fatal(err)
		}
	}
	run(t, nil, "debootstrap", "--variant=minbase", "--include=ca-certificates", suite, work, mirror)
	debs, err := filepath.Glob(filepath.Join(work, "var/cache/apt/archives/*.deb"))
	if err != nil {
		t.Fatal(err)
	}
	for _, deb := range debs {
		if err := os.Remove(deb); err != nil {
			t.Fatal(err)
		}
	}
	now := time.Now()
	if err := errors.Join(os.Chtimes(work, now, now), os.Rename(work, dir)); err != nil {
		t.Fatal(err)
	}
	return dir
}

// warm compiles as the Dockerfile does. The compiler's cache does not depend on
// where the sources are.
func warm(t *testing.T, cache string) error {
	cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-buildvcs=false", "-o", t.TempDir()+"/", "./cmd/shunt", "./deploy/compose/wire")
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0", "GOCACHE="+cache, "GOFLAGS=")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return errors.Join(err, errors.New(string(out)))
	}
	return nil
}

// moduleFiles lists what the build needs of the cache of modules: the modules
// that it compiles, and what the go command wants to know of all others.
func moduleFiles(t *testing.T, cache string) []string {
	t.Helper()
	cmd := exec.CommandContext(t.Context(), "go", "list", "-deps", "-f", "{{with .Module}}{{if not .Main}}{{.Dir}}{{end}}{{end}}", "./cmd/shunt", "./deploy/compose/wire")
	cmd.Dir = "../.."
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("list the modules: %v", err)
	}
	seen := map[string]bool{}
	var files []string
	for _, dir := range strings.Fields(string(out)) {
		if !seen[dir] {
			seen[dir] = true
			files = append(files, dir)
		}
	}
	err = filepath.WalkDir(filepath.Join(cache, "cache", "download"), func(path string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			if d.Name() == "sumdb" { // go.sum says enough
				return fs.SkipDir
			}
			return nil
		}
		switch filepath.Ext(path) {
		case ".mod", ".info", ".ziphash":
			files = append(files, path)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	return files
}

func goEnv(t *testing.T, name string) string {
	t.Helper()
	return strings.TrimSpace(run(t, nil, "go", "env", name))
}

// importTree makes an image of what tar packs: the names, among which
// --directory changes what they are relative to.
func (e *engine) importTree(t *testing.T, image string, options, names []string, changes ...string) {
	t.Helper()
	list := filepath.Join(t.TempDir(), "names") // longer than a command line may be
	if err := os.WriteFile(list, []byte(strings.Join(names, "\n")+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	tar := exec.CommandContext(t.Context(), "tar", append(options, "--create", "--files-from", list)...)
	args := []string{"import"}
	for _, c := range changes {
		args = append(args, "--change", c)
	}
	load := command(t.Context(), e.env(), "docker", append(args, "-", image)...)
	pipe, err := tar.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	load.Stdin = pipe
	var complaints strings.Builder
	tar.Stderr = &complaints
	if err := tar.Start(); err != nil {
		t.Fatal(err)
	}
	out, err := load.CombinedOutput()
	if err := errors.Join(err, tar.Wait()); err != nil {
		t.Fatalf("import %s: %v: %s%s", image, err, out, complaints.String())
	}
}
