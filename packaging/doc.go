// Package packaging makes what Shunt is installed from: a Debian package and a
// container image from scratch. Both are functions of the source tree: built
// twice from the same commit, also on different machines, they are equal octet
// by octet.
//
// `make package` runs the program in mkpackages. Nothing but Go is needed, and
// a C compiler for the library in preload.
package packaging

import (
	"embed"
	"io/fs"
)

//go:embed files
var embedded embed.FS

// files are the parts of the packages that are written by hand.
var files = func() fs.FS {
	sub, err := fs.Sub(embedded, "files")
	if err != nil {
		panic(err) // the directory above is there or nothing compiles
	}
	return sub
}()
