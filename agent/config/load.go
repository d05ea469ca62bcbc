package config

import conf "github.com/shunt-sdn/shunt/internal/yamlconf"

// Load reads the file at path. The error is a yamlconf.Errors unless the file
// cannot be read.
func Load(path string) (Config, error) {
	text, err := conf.ReadFile(path)
	if err != nil {
		return Config{}, err
	}
	return Parse(path, text)
}

// Parse reads a configuration. The name stands in errors, which are a
// yamlconf.Errors.
func Parse(name string, text []byte) (Config, error) {
	r := &reader{conf.NewReader(name)}
	root := r.Root(text)
	if err := r.Err(); err != nil {
		return Config{}, err
	}
	d := r.document(root)
	if err := r.Err(); err != nil {
		return Config{}, err
	}
	r.check(d)
	if err := r.Err(); err != nil {
		return Config{}, err
	}
	return d.config(), nil
}
