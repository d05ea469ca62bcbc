package policy

import "slices"

// Servers returns every server that the rule's requests can go to, those of
// backup pools last, whatever their state.
func (r *Rule) Servers() []string {
	var names []string
	for backup := range 2 {
		for _, p := range r.pools {
			for level := 0; p != nil; p, level = p.backup, level+1 {
				if (level > 0) != (backup > 0) {
					continue
				}
				for i := range p.members {
					if n := p.members[i].name; !slices.Contains(names, n) {
						names = append(names, n)
					}
				}
			}
		}
	}
	return names
}
