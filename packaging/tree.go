package packaging

import (
	"archive/tar"
	"cmp"
	"compress/gzip"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"
	"time"
)

// A File is one file of a package.
type File struct {
	Path     string // absolute, clean
	Mode     int64  // permission bits
	Body     []byte
	Link     string // not empty: a symbolic link to there
	Conffile bool   // dpkg asks before it overwrites what the administrator changed
}

// A Tree is what a package puts on a machine. Directories follow from the files.
type Tree []File

// writeTar writes the tree as an archive with prefix before every path. Owners
// are root; times are all the given one.
func (t Tree) writeTar(w io.Writer, prefix string, when time.Time) error {
	tw := tar.NewWriter(w)
	header := func(name string, kind byte, mode int64) *tar.Header {
		return &tar.Header{Name: prefix + name, Typeflag: kind, Mode: mode, Uname: "root", Gname: "root", ModTime: when, Format: tar.FormatGNU}
	}
	sorted := sortTree(slices.Clone(t))
	made := map[string]bool{}
	for _, f := range sorted {
		if path.Clean(f.Path) != f.Path || !path.IsAbs(f.Path) {
			return fmt.Errorf("archive %q: not a clean absolute path", f.Path)
		}
		for _, dir := range parents(f.Path) {
			if !made[dir] {
				made[dir] = true
				if err := tw.WriteHeader(header(strings.TrimSuffix(dir, "/")+"/", tar.TypeDir, 0o755)); err != nil {
					return fmt.Errorf("archive %s: %w", dir, err)
				}
			}
		}
		h := header(f.Path, tar.TypeReg, f.Mode)
		if f.Link != "" {
			h.Typeflag, h.Linkname, h.Mode = tar.TypeSymlink, f.Link, 0o777
		} else {
			h.Size = int64(len(f.Body))
		}
		if err := tw.WriteHeader(h); err != nil {
			return fmt.Errorf("archive %s: %w", f.Path, err)
		}
		if f.Link == "" {
			if _, err := tw.Write(f.Body); err != nil {
				return fmt.Errorf("archive %s: %w", f.Path, err)
			}
		}
	}
	return tw.Close()
}

// sortTree sorts by path, in place.
func sortTree(t Tree) Tree {
	slices.SortFunc(t, func(a, b File) int { return cmp.Compare(a.Path, b.Path) })
	return t
}

// parents are the directories above p, "/" first.
func parents(p string) []string {
	var out []string
	for p = path.Dir(p); p != "/"; p = path.Dir(p) {
		out = append(out, p)
	}
	out = append(out, "/")
	slices.Reverse(out)
	return out
}

// size is what the tree takes on a disk, KiB, as Debian counts: files rounded
// up, one for each directory and link.
func (t Tree) size() int {
	dirs := map[string]bool{}
	n := 0
	for _, f := range t {
		n += max(1, (len(f.Body)+1023)/1024)
		for _, d := range parents(f.Path) {
			dirs[d] = true
		}
	}
	return n + len(dirs)
}

// largeFile is what takes too long to compress as well as possible, octets.
const largeFile = 1 << 20

// compress returns b in gzip's format, without a name or time in it.
func compress(b []byte) ([]byte, error) {
	var out strings.Builder
	level := gzip.BestCompression // as Debian wants manual pages
	if len(b) > largeFile {
		level = gzip.DefaultCompression // half the time for 3 % more
	}
	z, err := gzip.NewWriterLevel(&out, level)
	if err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if _, err := z.Write(b); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	if err := z.Close(); err != nil {
		return nil, fmt.Errorf("compress: %w", err)
	}
	return []byte(out.String()), nil
}
