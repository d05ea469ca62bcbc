package policy

import (
	"net/netip"
	"time"

	"github.com/shunt-sdn/shunt/policy/match"
)

// Model is a policy as an operator wrote it. The fields are those of the API
// (proto/shunt/v1/policy.proto), which documents them; where the API lets a
// field be absent, the zero value here means the same.
type Model struct {
	Services []Service
	Pools    []Pool
	Servers  []Server
}

// Service is where clients connect, who accepts, and which requests go where.
type Service struct {
	Name        string
	VIPs        []netip.Addr
	Port        uint16
	Dispatchers []string
	// Servers may answer. For an engine that is to choose, what the policy
	// leaves empty must be filled in with the nodes that run the application.
	Servers     []string
	Limits      ServiceLimits
	Routes      []Route
	DefaultPool string
}

// ServiceLimits bound what a dispatcher waits for; 0: the standard value.
type ServiceLimits struct {
	MaxHeadBytes  int
	HeadTimeout   time.Duration
	ImportTimeout time.Duration
}

// Route is which requests, and what to do with them.
type Route struct {
	Name     string
	Match    *match.Match // nil: every request
	Pool     string
	Pools    []WeightedPool
	Reject   *Reject
	Affinity *Affinity
	Limits   RouteLimits
	Mode     Mode
}

// WeightedPool is a pool's share of a route's requests.
type WeightedPool struct {
	Pool   string
	Weight uint32
}

// Reject is an answer by the dispatcher.
type Reject struct {
	Status int // 400 to 599
	Reason string
}

// Affinity names what keeps a client's requests on one server; exactly one.
type Affinity struct {
	Cookie string
	Header string
	Client bool
}

// RouteLimits are enforced by each dispatcher on its own; 0: none.
type RouteLimits struct {
	RequestsPerSecond uint32
	Burst             uint32
	MaxBodyBytes      uint64
}

// Mode is how a request gets to its server.
type Mode uint8

const (
	ModeUnspecified Mode = iota // Migrate
	Migrate
	Proxy
	// Auto is never the mode of a Choice: it has become one of the others.
	Auto
)

func (m Mode) String() string {
	return [...]string{"unspecified", "migrate", "proxy", "auto"}[min(m, Auto)]
}

// Algorithm is how a pool chooses among its servers.
type Algorithm uint8

const (
	AlgorithmUnspecified Algorithm = iota // RoundRobinAlgorithm
	RoundRobinAlgorithm
	WeightedRoundRobin
	Random
	LeastRequests
	LeastConnections
	RingHash
	Maglev
	Rendezvous
)

func (a Algorithm) String() string {
	return [...]string{"unspecified", "round_robin", "weighted_round_robin", "random", "least_requests",
		"least_connections", "ring_hash", "maglev", "rendezvous"}[min(a, Rendezvous)]
}

// hashes tells whether the request alone says which server it should get.
func (a Algorithm) hashes() bool { return a >= RingHash }

// Pool is servers and how one is chosen.
type Pool struct {
	Name         string
	Algorithm    Algorithm
	Hash         *Hash
	Members      []Member // empty: the service's servers
	Backup       string
	Check        *HealthCheck
	Ejection     *Ejection
	PanicPercent uint32
	SlowStart    *SlowStart
	External     *External
}

// Member is a server in a pool.
type Member struct {
	Server   string
	Weight   uint32 // 0: only requests that are bound to it
	Priority uint32 // the lowest that can be used is
}

// Hash says what of a request decides, and how.
type Hash struct {
	On          []HashKey // empty: the client
	LoadPercent uint32    // 0: loads do not matter
	TableSize   uint32    // of Maglev
	Points      uint32    // of RingHash
}

// KeyKind is an attribute of a request.
type KeyKind uint8

const (
	KeyClient KeyKind = iota + 1
	KeyHeader
	KeyCookie
	KeyQuery
	KeyPath
	KeyHost
	KeyURL
)

// HashKey is an attribute of a request; Name is that of a header, cookie or
// parameter.
type HashKey struct {
	Kind KeyKind
	Name string
}

// HealthCheck is done by the server's own agent. Exactly one of HTTP and TCP.
type HealthCheck struct {
	HTTP              *HTTPCheck
	TCP               *TCPCheck
	Interval, Timeout time.Duration
	Rise, Fall        uint32
}

// HTTPCheck is a request and what must come back.
type HTTPCheck struct {
	Path, Host, Method string
	Statuses           []StatusRange
	Body               string
}

// StatusRange is inclusive.
type StatusRange struct{ From, To int }

// TCPCheck is a connection, and what may be said on it.
type TCPCheck struct{ Send, Expect string }

// Ejection takes out servers that fail.
type Ejection struct {
	Failures          uint32
	BaseTime, MaxTime time.Duration
	MaxPercent        uint32
	ServerErrors      bool
}

// SlowStart gives a new server its share little by little.
type SlowStart struct {
	Window     time.Duration
	MinPercent uint32
}

// External is an operator's program that chooses.
type External struct {
	Address  string
	Deadline time.Duration
	Breaker  Breaker
	Headers  []string
	TLS      *ExternalTLS
}

// ExternalTLS are files on the dispatchers.
type ExternalTLS struct{ CAFile, CertFile, KeyFile, ServerName string }

// Breaker stops asking a program that fails; 0: the standard value.
type Breaker struct {
	Failures uint32
	OpenTime time.Duration
	Trials   uint32
}

// Server is what holds for a node in every pool.
type Server struct {
	Name          string
	WeightPercent uint32 // of its weight; 100: as it is
	Drain         bool
	MaxLoad       uint32
}

// Standard values of what a policy leaves out.
const (
	DefaultMaxHeadBytes  = 16384
	DefaultHeadTimeout   = 10 * time.Second
	DefaultImportTimeout = time.Second

	DefaultCheckInterval = 2 * time.Second
	DefaultCheckTimeout  = time.Second
	DefaultRise          = 2
	DefaultFall          = 3

	DefaultEjectionFailures = 5
	DefaultEjectionBase     = 10 * time.Second
	DefaultEjectionMax      = 300 * time.Second
	DefaultEjectionPercent  = 50

	DefaultSlowStartPercent = 10

	DefaultExternalDeadline = 20 * time.Millisecond
	DefaultBreakerFailures  = 5
	DefaultBreakerOpen      = time.Second
	MaxBreakerOpen          = 30 * time.Second
	DefaultBreakerTrials    = 2

	DefaultRingPoints  = 160
	DefaultMaglevTable = 65537
)

func or[T comparable](v, standard T) T {
	var zero T
	if v == zero {
		return standard
	}
	return v
}

// Or fills in the standard values.
func (c HealthCheck) Or() HealthCheck {
	c.Interval, c.Timeout = or(c.Interval, DefaultCheckInterval), or(c.Timeout, DefaultCheckTimeout)
	c.Rise, c.Fall = or(c.Rise, DefaultRise), or(c.Fall, DefaultFall)
	if c.HTTP != nil {
		h := *c.HTTP
		h.Path, h.Method = or(h.Path, "/"), or(h.Method, "GET")
		if len(h.Statuses) == 0 {
			h.Statuses = []StatusRange{{200, 399}}
		}
		c.HTTP = &h
	}
	return c
}

// Or fills in the standard values.
func (e Ejection) Or() Ejection {
	e.Failures, e.MaxPercent = or(e.Failures, DefaultEjectionFailures), or(e.MaxPercent, DefaultEjectionPercent)
	e.BaseTime, e.MaxTime = or(e.BaseTime, DefaultEjectionBase), or(e.MaxTime, DefaultEjectionMax)
	return e
}

// Or fills in the standard values.
func (b Breaker) Or() Breaker {
	b.Failures, b.Trials = or(b.Failures, DefaultBreakerFailures), or(b.Trials, DefaultBreakerTrials)
	b.OpenTime = or(b.OpenTime, DefaultBreakerOpen)
	return b
}

// Or fills in the standard values.
func (l ServiceLimits) Or() ServiceLimits {
	l.MaxHeadBytes = or(l.MaxHeadBytes, DefaultMaxHeadBytes)
	l.HeadTimeout, l.ImportTimeout = or(l.HeadTimeout, DefaultHeadTimeout), or(l.ImportTimeout, DefaultImportTimeout)
	return l
}
