package policy

// Observe takes in how something went that a choice sent to its server: an
// import or a response. what says what failed, or is "" on success. In a pool
// with an ejection rule, enough failures in a row take the server out for a
// while; Observe tells whether this one did.
func (r *Rule) Observe(c Choice, what string) (ejected bool) {
	for _, p := range r.pools {
		for ; p != nil; p = p.backup {
			if p.name == c.Pool {
				return p.observe(c.Server, what)
			}
		}
	}
	return false
}

// ServerErrors tells whether responses with status 500 to 599 count as failures
// for the choice's pool.
func (r *Rule) ServerErrors(c Choice) bool {
	for _, p := range r.pools {
		for ; p != nil; p = p.backup {
			if p.name == c.Pool {
				return p.serverErrors
			}
		}
	}
	return false
}

// Answered takes in what a server's agent says of its answers for a service: how
// many had a status of 500 to 599 since it began, and how many of the latest. In
// pools that the service leads to and that count them as failures, enough of them in
// a row take the server out for a while. It tells whether they did in any.
func (e *Engine) Answered(server, service string, errors uint64, inARow uint32) (ejected bool) {
	st := e.state
	st.mu.Lock()
	s := st.server(server)
	before, known := s.errors[service]
	if s.errors == nil {
		s.errors = make(map[string]uint64)
	}
	s.errors[service] = errors
	st.mu.Unlock()
	if !known || errors <= before {
		return false // nothing new
	}
	for _, p := range e.pools {
		if _, ok := p.index[server]; !ok || !p.serverErrors || !p.services[service] || int(inARow) < p.ejection.Failures {
			continue
		}
		for range p.ejection.Failures {
			ejected = p.observe(server, "answers with status 500 to 599") || ejected
		}
	}
	return ejected
}

func (p *pool) observe(server, what string) bool {
	i, ok := p.index[server]
	if !ok || p.ejection == nil {
		return false
	}
	st := p.e.state
	st.mu.Lock()
	defer st.mu.Unlock()
	now := st.now()
	allowed := func() bool {
		out := 0
		for j := range p.members {
			if p.members[j].state.eject.Out(now) {
				out++
			}
		}
		return out < max(len(p.members)*int(p.ejectMost)/100, 1)
	}
	if !p.members[i].state.eject.Observe(*p.ejection, what, now, allowed) {
		return false
	}
	st.epoch.Add(1)
	return true
}
