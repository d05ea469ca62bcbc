package logconf

import (
	"fmt"
	"log/slog"
	"slices"
	"strings"

	"go.yaml.in/yaml/v3"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

// Read returns the reader of the key "log":
//
//	log: {level: info, format: text, levels: {dispatcher: debug}}
//
// subsystems are the names that levels may have.
func Read(r *conf.Reader, into *Config, subsystems []string) func(*yaml.Node) {
	return func(n *yaml.Node) {
		var level conf.At[slog.Level]
		var format conf.At[Format]
		levels := make(map[string]slog.Level)
		r.Mapping(n, "log",
			conf.Optional("level", conf.Scalar(r, "log.level", &level, ParseLevel)),
			conf.Optional("format", conf.Scalar(r, "log.format", &format, parseFormat)),
			conf.Optional("levels", func(n *yaml.Node) {
				fields := make([]conf.Field, len(subsystems))
				read := make([]conf.At[slog.Level], len(subsystems))
				for i, s := range subsystems {
					fields[i] = conf.Optional(s, conf.Scalar(r, "log.levels."+s, &read[i], ParseLevel))
				}
				r.Mapping(n, "log.levels", fields...)
				for i, s := range subsystems {
					if read[i].N != nil {
						levels[s] = read[i].V
					}
				}
			}))
		*into = Config{Level: level.V, Format: format.Or(Text)}
		if len(levels) > 0 {
			into.Levels = levels
		}
	}
}

var names = []string{"debug", "info", "warn", "error"}

// ParseLevel takes debug, info, warn or error. The error reads on after the
// value, as yamlconf wants it.
func ParseLevel(s string) (l slog.Level, err error) {
	if !slices.Contains(names, s) {
		return 0, fmt.Errorf("is no level; write %s", strings.Join(names, ", "))
	}
	err = l.UnmarshalText([]byte(s))
	return l, err
}

func parseFormat(s string) (Format, error) {
	switch f := Format(s); f {
	case Text, JSON:
		return f, nil
	}
	return "", fmt.Errorf("is unknown; write text or json")
}
