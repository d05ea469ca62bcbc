// Package grafana_test checks that Grafana in the lab of containers finds the
// dashboard beside this file, and Prometheus. That the dashboard's queries have
// data is tested in lab/e2e.
package grafana_test

import (
	"bytes"
	"encoding/json"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

const top = "../.."

// read reads a YAML file; strict: keys that into lacks are errors.
func read(t *testing.T, file string, strict bool, into any) {
	t.Helper()
	b, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	d := yaml.NewDecoder(bytes.NewReader(b))
	d.KnownFields(strict)
	if err := d.Decode(into); err != nil {
		t.Fatalf("%s: %v", file, err)
	}
}

type service struct {
	Profiles, Networks, Volumes []string
	Environment                 map[string]string
}

// on returns where on this machine a file of the container is.
func (s service) on(t *testing.T, path string) string {
	t.Helper()
	for _, v := range s.Volumes {
		from, rest, _ := strings.Cut(v, ":")
		to, _, _ := strings.Cut(rest, ":")
		if below, ok := strings.CutPrefix(path, to); ok {
			return filepath.Join(top, from, below)
		}
	}
	t.Fatalf("no volume of Grafana has %s", path)
	return ""
}

func TestGrafanaFindsTheDashboardAndPrometheus(t *testing.T) {
	var compose struct {
		// Services have what this test does not look at, in forms that differ.
		Services map[string]yaml.Node
	}
	read(t, filepath.Join(top, "docker-compose.yml"), false, &compose)
	var grafana, prometheus service
	for name, s := range map[string]*service{"grafana": &grafana, "prometheus": &prometheus} {
		node := compose.Services[name]
		if err := node.Decode(s); err != nil {
			t.Fatalf("%s: %v", name, err)
		}
	}
	if len(grafana.Profiles) != 1 {
		t.Errorf("Grafana's profiles are %q; `docker compose up` must not need its image", grafana.Profiles)
	}
	if len(grafana.Networks) != 1 || !strings.Contains(strings.Join(prometheus.Networks, " "), grafana.Networks[0]) {
		t.Errorf("Grafana's networks %q are not for Prometheus, which has %q", grafana.Networks, prometheus.Networks)
	}

	var sources struct {
		APIVersion  int `yaml:"apiVersion"`
		Datasources []struct {
			Name, UID, Type, Access, URL string
			IsDefault                    bool           `yaml:"isDefault"`
			JSONData                     map[string]any `yaml:"jsonData"`
		}
	}
	read(t, grafana.on(t, "/etc/grafana/provisioning/datasources/prometheus.yml"), true, &sources)
	if len(sources.Datasources) != 1 {
		t.Fatalf("data sources %+v", sources)
	}
	s := sources.Datasources[0]
	if u, err := url.Parse(s.URL); err != nil || u.Hostname() != "prometheus" || s.Type != "prometheus" || !s.IsDefault {
		t.Errorf("data source %+v, %v", s, err)
	}
	var scraped struct {
		Global struct {
			Interval string `yaml:"scrape_interval"`
		}
	}
	read(t, "../compose/prometheus/prometheus.yml", false, &scraped)
	if s.JSONData["timeInterval"] != scraped.Global.Interval { // what rates are made over depends on it
		t.Errorf("Grafana believes in scrapes every %v, they are every %s", s.JSONData["timeInterval"], scraped.Global.Interval)
	}

	var boards struct {
		APIVersion int `yaml:"apiVersion"`
		Providers  []struct {
			Name, Type      string
			DisableDeletion bool `yaml:"disableDeletion"`
			Options         struct{ Path string }
		}
	}
	read(t, grafana.on(t, "/etc/grafana/provisioning/dashboards/shunt.yml"), true, &boards)
	if len(boards.Providers) != 1 || boards.Providers[0].Type != "file" {
		t.Fatalf("providers %+v", boards)
	}
	home := grafana.Environment["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"]
	if filepath.Dir(home) != boards.Providers[0].Options.Path {
		t.Errorf("the home dashboard %s is not in %s", home, boards.Providers[0].Options.Path)
	}
	b, err := os.ReadFile(grafana.on(t, home))
	if err != nil {
		t.Fatal(err)
	}
	var board struct {
		UID, Title string
		Panels     []json.RawMessage
	}
	if err := json.Unmarshal(b, &board); err != nil || board.UID != "shunt" || len(board.Panels) == 0 {
		t.Errorf("%s: uid %q, %v", home, board.UID, err)
	}
}
