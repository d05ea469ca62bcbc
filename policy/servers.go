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

// ForDispatcher tells whether only a dispatcher can decide on the rule's
// requests: they are refused or limited, or an operator's program is asked.
func (r *Rule) ForDispatcher() bool {
	if r.reject != nil || r.limits.RequestsPerSecond > 0 || r.limits.MaxBodyBytes > 0 {
		return true
	}
	for _, p := range r.pools {
		for ; p != nil; p = p.backup {
			if p.program != nil {
				return true
			}
		}
	}
	return false
}

// Learns tells whether the rule's mode is auto: whether Learn has a use for what
// requests have cost.
func (r *Rule) Learns() bool { return r.mode == Auto }

// Proxies tells whether the rule's requests may be copied rather than handed off.
func (r *Rule) Proxies() bool { return r.mode == Proxy || r.mode == Auto }
