// Command gen writes docs/configuration.md.
package main

import (
	"fmt"
	"os"

	"github.com/shunt-sdn/shunt/internal/configdoc"
)

func main() {
	files, err := configdoc.Read("../..")
	if err == nil && len(os.Args) != 2 {
		err = fmt.Errorf("name the file to write")
	}
	if err == nil {
		err = os.WriteFile(os.Args[1], []byte(configdoc.Markdown(files)), 0o644)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "configdoc:", err)
		os.Exit(1)
	}
}
