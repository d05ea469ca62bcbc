package accesslog

import (
	"fmt"

	"go.yaml.in/yaml/v3"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// Stdout is the path that stands for standard output.
const Stdout = "stdout"

// Config of a log. The zero value is none.
type Config struct {
	Path   string // of the file, or Stdout; empty: no log
	Format Format
}

// Read returns the reader of the key "access_log":
//
//	access_log: {path: /var/log/shunt/access.log, format: combined}
func Read(r *conf.Reader, into *Config) func(*yaml.Node) {
	return func(n *yaml.Node) {
		var path conf.At[string]
		var format conf.At[Format]
		r.Mapping(n, "access_log",
			conf.Needed("path", "write the file's absolute path, or stdout", conf.Scalar(r, "access_log.path", &path, parsePath)),
			conf.Optional("format", conf.Scalar(r, "access_log.format", &format, parseFormat)))
		*into = Config{Path: path.V, Format: format.Or(Common)}
	}
}

func parsePath(s string) (string, error) {
	if s == Stdout {
		return s, nil
	}
	if _, err := conf.Path(s); err != nil {
		return "", fmt.Errorf("is a relative path; write an absolute one, or stdout")
	}
	return s, nil
}

func parseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Common, Combined, JSON:
		return f, nil
	}
	return "", fmt.Errorf("is unknown; write common, combined or json")
}
