package policy

import (
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/shunt-sdn/shunt/policy/balance"
)

func (v *validator) pool(at string, p *Pool) {
	v.name(at+".name", p.Name)
	if p.Algorithm > Rendezvous {
		v.Add(at+".algorithm", "", "algorithm %d is unknown", p.Algorithm)
	}
	if p.Hash != nil {
		v.hash(at+".hash", p)
	}
	v.members(at+".members", p.Members)
	if p.Algorithm == Maglev && len(p.Members) > balance.MaxMaglev {
		v.Add(at+".members", "split the pool", "maglev takes %d members, not %d", balance.MaxMaglev, len(p.Members))
	}
	if p.Backup != "" {
		v.poolRef(at+".backup", p.Backup)
		v.backups(at+".backup", p)
	}
	if p.Check != nil {
		v.check(at+".check", p.Check)
	}
	if e := p.Ejection; e != nil {
		v.duration(at+".ejection.baseTime", e.BaseTime, 100*time.Millisecond, time.Hour)
		v.duration(at+".ejection.maxTime", e.MaxTime, 100*time.Millisecond, 24*time.Hour)
		v.atMost(at+".ejection.maxPercent", e.MaxPercent, 100)
		if o := e.Or(); o.MaxTime < o.BaseTime {
			v.Add(at+".ejection.maxTime", "make it at least baseTime", "%v is less than the base time of %v", o.MaxTime, o.BaseTime)
		}
	}
	v.atMost(at+".panicPercent", p.PanicPercent, 100)
	if s := p.SlowStart; s != nil {
		if s.Window == 0 {
			v.Add(at+".slowStart.window", `write a duration such as "30s"`, "the window is missing")
		}
		v.duration(at+".slowStart.window", s.Window, 100*time.Millisecond, time.Hour)
		v.atMost(at+".slowStart.minPercent", s.MinPercent, 100)
	}
	if p.External != nil {
		v.external(at+".external", p.External)
	}
}

func (v *validator) hash(at string, p *Pool) {
	h := p.Hash
	if !p.Algorithm.hashes() {
		v.Add(at, "set algorithm to ring_hash, maglev or rendezvous", "the algorithm %s does not hash", or(p.Algorithm, RoundRobinAlgorithm))
	}
	for i, k := range h.On {
		field := fmt.Sprintf("%s.on[%d]", at, i)
		named := k.Kind == KeyHeader || k.Kind == KeyCookie || k.Kind == KeyQuery
		switch {
		case k.Kind < KeyClient || k.Kind > KeyURL:
			v.Add(field, "write one of client, header, cookie, query, path, host and url", "the key is empty")
		case named && k.Name == "":
			v.Add(field, "write the name of the header, cookie or parameter", "the key has no name")
		}
	}
	if h.LoadPercent != 0 && (h.LoadPercent <= 100 || h.LoadPercent > 1000) {
		v.Add(at+".loadPercent", "write 101 to 1000, such as 125; 0 switches it off", "%d %% of the mean load cannot bound it", h.LoadPercent)
	}
	if h.TableSize != 0 {
		switch {
		case p.Algorithm != Maglev:
			v.Add(at+".tableSize", "remove it", "only maglev has a table")
		case h.TableSize > 1<<23 || !big.NewInt(int64(h.TableSize)).ProbablyPrime(0):
			v.Add(at+".tableSize", "write 65537 or another prime, at most 8388593", "%d is not a prime, or too big", h.TableSize)
		case uint64(h.TableSize) < 2*uint64(len(p.Members)):
			v.Add(at+".tableSize", "make it 100 times as many or remove it", "%d is too small for %d members", h.TableSize, len(p.Members))
		}
	}
	if h.Points != 0 && p.Algorithm != RingHash {
		v.Add(at+".points", "remove it", "only ring_hash has points")
	}
	v.atMost(at+".points", h.Points, 1024)
}

func (v *validator) members(at string, list []Member) {
	first, weights := make(map[string]int), false
	for i, m := range list {
		field := fmt.Sprintf("%s[%d]", at, i)
		v.name(field+".server", m.Server)
		if j, ok := first[m.Server]; ok {
			v.Add(field+".server", "remove one", "%q is member %d too", m.Server, j)
		} else {
			first[m.Server] = i
		}
		v.atMost(field+".weight", m.Weight, 1000)
		v.atMost(field+".priority", m.Priority, 15)
		weights = weights || m.Weight > 0
	}
	if len(list) > 0 && !weights {
		v.Add(at, "give one of them a weight", "all weights are 0")
	}
}

// backups looks for a circle, and reports it once: at the pool of the least name.
func (v *validator) backups(at string, p *Pool) {
	circle := []string{p.Name}
	for q := v.pools[p.Backup]; q != nil; q = v.pools[q.Backup] {
		circle = append(circle, q.Name)
		if q.Name == p.Name {
			v.Add(at, "remove one of the backups", "the backups are a circle: %s", strings.Join(circle, " → "))
			return
		}
		if q.Name < p.Name || len(circle) > len(v.pools) {
			return
		}
	}
}

func (v *validator) check(at string, c *HealthCheck) {
	if (c.HTTP == nil) == (c.TCP == nil) {
		v.Add(at, "write http or tcp, {} is enough", "the check needs exactly one of http and tcp")
	}
	if h := c.HTTP; h != nil {
		if h.Path != "" && !strings.HasPrefix(h.Path, "/") {
			v.Add(at+".http.path", "begin it with '/'", "%q is not a path", h.Path)
		}
		if strings.ContainsFunc(h.Path+h.Host+h.Method, func(c rune) bool { return c <= ' ' || c >= 0x7f }) {
			v.Add(at+".http", "percent-encode them", "path, host or method has a character that cannot be sent")
		}
		for i, s := range h.Statuses {
			if s.From < 100 || s.To > 599 || s.From > s.To {
				v.Add(fmt.Sprintf("%s.http.statuses[%d]", at, i), `write "200" or "200-399"`, "%d-%d is not a range of statuses", s.From, s.To)
			}
		}
	}
	v.duration(at+".interval", c.Interval, 100*time.Millisecond, time.Hour)
	v.duration(at+".timeout", c.Timeout, 10*time.Millisecond, time.Minute)
	v.atMost(at+".rise", c.Rise, 100)
	v.atMost(at+".fall", c.Fall, 100)
}

func (v *validator) external(at string, e *External) {
	v.address(at+".address", e.Address)
	v.duration(at+".deadline", e.Deadline, time.Millisecond, 10*time.Second)
	v.duration(at+".breaker.openTime", e.Breaker.OpenTime, 10*time.Millisecond, MaxBreakerOpen)
	if t := e.TLS; t != nil {
		if (t.CertFile == "") != (t.KeyFile == "") {
			v.Add(at+".tls", "write both or neither", "certFile and keyFile go together")
		}
		if strings.HasPrefix(e.Address, "unix:") {
			v.Add(at+".tls", "remove it", "a unix socket needs no TLS")
		}
	}
}
