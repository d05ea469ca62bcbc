package packaging

import (
	"bytes"
	"crypto/md5"
	"fmt"
	"slices"
	"strings"
	"time"
)

// A Deb is a Debian binary package.
type Deb struct {
	Control []Field           // in this order; Installed-Size is added
	Scripts map[string][]byte // maintainer scripts: postinst, …
	Tree    Tree
	When    time.Time // of every file
}

// A Field is one of a control file; lines after the first are indented.
type Field struct{ Name, Value string }

// Bytes returns the package file. Format: deb(5), version 2.0.
func (d Deb) Bytes() ([]byte, error) {
	var out bytes.Buffer
	out.WriteString("!<arch>\n")
	d.member(&out, "debian-binary", []byte("2.0\n"))
	for _, part := range []struct {
		name string
		tree Tree
	}{{"control.tar.gz", d.controlTree()}, {"data.tar.gz", d.Tree}} {
		var b bytes.Buffer
		if err := part.tree.writeTar(&b, ".", d.When); err != nil {
			return nil, err
		}
		z, err := compress(b.Bytes())
		if err != nil {
			return nil, err
		}
		d.member(&out, part.name, z)
	}
	return out.Bytes(), nil
}

// member appends a member of an ar archive.
func (d Deb) member(out *bytes.Buffer, name string, body []byte) {
	fmt.Fprintf(out, "%-16s%-12d%-6d%-6d%-8s%-10d`\n", name, d.When.Unix(), 0, 0, "100644", len(body))
	out.Write(body)
	if len(body)%2 == 1 {
		out.WriteByte('\n')
	}
}

func (d Deb) controlTree() Tree {
	var control, sums, conffiles strings.Builder
	for _, f := range d.Control {
		if f.Name == "Description" {
			fmt.Fprintf(&control, "Installed-Size: %d\n", d.Tree.size())
		}
		fmt.Fprintf(&control, "%s: %s\n", f.Name, f.Value)
	}
	for _, f := range sortTree(slices.Clone(d.Tree)) {
		switch {
		case f.Conffile:
			fmt.Fprintln(&conffiles, f.Path)
		case f.Link == "":
			fmt.Fprintf(&sums, "%x  %s\n", md5.Sum(f.Body), strings.TrimPrefix(f.Path, "/"))
		}
	}
	tree := Tree{
		{Path: "/control", Mode: 0o644, Body: []byte(control.String())},
		{Path: "/md5sums", Mode: 0o644, Body: []byte(sums.String())},
	}
	if conffiles.Len() > 0 {
		tree = append(tree, File{Path: "/conffiles", Mode: 0o644, Body: []byte(conffiles.String())})
	}
	for name, body := range d.Scripts {
		tree = append(tree, File{Path: "/" + name, Mode: 0o755, Body: body})
	}
	return tree
}
