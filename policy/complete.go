package policy

import (
	"maps"
	"slices"
)

// Complete makes a model ready to choose with: a service that says nothing of
// its servers gets those that run its application, and a service that only the
// controller's configuration knows gets all its requests served by them in turn.
// runs has the nodes of each service in order. The slices of m are not changed
// but replaced.
func (m *Model) Complete(runs map[string][]string) {
	m.Services = slices.Clone(m.Services)
	known := make(map[string]bool, len(m.Services))
	for i := range m.Services {
		s := &m.Services[i]
		known[s.Name] = true
		if len(s.Servers) == 0 {
			s.Servers = runs[s.Name]
		}
	}
	for _, name := range slices.Sorted(maps.Keys(runs)) {
		if !known[name] {
			m.Services = append(m.Services, Service{Name: name, Servers: runs[name]})
		}
	}
}
