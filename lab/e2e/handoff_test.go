package e2e

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/lab"
	"github.com/shunt-sdn/shunt/lab/app"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// kinds are the switches and steerings that everything must work with.
var kinds = []lab.Options{
	{Switch: lab.SwitchSim, Steering: "flows"},
	{Switch: lab.SwitchSim, Steering: "conntrack"},
	{Switch: lab.SwitchOVS, Steering: "flows"},
	{Switch: lab.SwitchOVS, Steering: "conntrack"},
}

func TestRealClientsAreServedByTheServersThemselves(t *testing.T) {
	testnet.NeedProgram(t, "curl", "wget")
	for _, o := range kinds {
		t.Run(o.Switch+" "+o.Steering, func(t *testing.T) {
			o.IPv6 = true
			c := up(t, o)
			if s := c.status().Switches; len(s) != 1 || !s[0].Connected || s[0].Steering != o.Steering {
				t.Fatalf("switches: %v", s)
			}
			before := c.status()
			requests := 0
			for i := range c.Service().VIPs() {
				c.eachServerAnswers(i, &requests)
				c.largeBodies(i, &requests)
			}
			c.await(5*time.Second, func() string {
				s := c.status()
				if got := int(s.HandoffsCompleted - before.HandoffsCompleted); got != requests {
					return fmt.Sprintf("%d requests, but %d hand-offs completed", requests, got)
				}
				return ""
			})
			s := c.status()
			if s.HandoffsFailed != 0 || s.HandoffsRolledBack != before.HandoffsRolledBack || s.RequestsProxied != before.RequestsProxied {
				t.Errorf("not every connection was handed off: %v", s)
			}
		})
	}
}

// eachServerAnswers sends small requests by curl, in turn answered by all.
func (c *cluster) eachServerAnswers(vip int, requests *int) {
	c.t.Helper()
	answers := make(map[string]int)
	for range 9 {
		answers[strings.TrimSpace(c.exec("client1", "curl", "-sS", "--fail", "-g", "--max-time", "20", c.urls("/whoami")[vip]))]++
		*requests++
	}
	for _, h := range c.Info().Hosts {
		if h.Role == lab.RoleServer && answers[h.Name] != 3 {
			c.t.Errorf("in 9 requests %s answered %d times: %v", h.Name, answers[h.Name], answers)
		}
	}
}

// largeBodies moves 20 MB each way, by curl and by wget.
func (c *cluster) largeBodies(vip int, requests *int) {
	c.t.Helper()
	const n = 20_000_000
	dir := c.t.TempDir()
	got := filepath.Join(dir, "got")
	c.exec("client1", "wget", "-q", "-T", "30", "-t", "1", "-O", got, c.urls(fmt.Sprintf("/bytes/%d", n))[vip])
	*requests++
	c.sameContent(got, n)
	c.exec("client1", "curl", "-sS", "--fail", "-g", "--max-time", "60", "-o", got, c.urls(fmt.Sprintf("/bytes/%d", n))[vip])
	*requests++
	c.sameContent(got, n)
	echo := c.exec("client1", "curl", "-sS", "--fail", "-g", "--max-time", "60", "-H", "Expect:", "--data-binary", "@"+got, c.urls("/echo")[vip])
	*requests++
	if !strings.Contains(echo, fmt.Sprint(n)) || !strings.Contains(echo, digest(n)) {
		c.t.Errorf("uploaded %d octets with digest %s; the server got %s", n, digest(n), echo)
	}
}

func (c *cluster) sameContent(file string, n int64) {
	c.t.Helper()
	f, err := os.Open(file)
	if err != nil {
		c.t.Fatal(err)
	}
	defer f.Close()
	v := app.NewVerifier(n)
	if _, err := f.WriteTo(v); err != nil {
		c.t.Fatal(err)
	}
	if err := v.Close(); err != nil {
		c.t.Error(err)
	}
}

func TestTheWholeLabSpeaksMutualTLSIfTold(t *testing.T) {
	c := up(t, lab.Options{TLS: true})
	h := c.client("client1")
	for range 6 {
		if err := download(t.Context(), h, c.urls("/bytes/100000")[0], 100000); err != nil {
			t.Fatal(err)
		}
	}
	if s := c.status(); s.HandoffsCompleted < 6 {
		t.Errorf("hand-offs: %v", s)
	}
}

func TestARelayAttachesAnyServer(t *testing.T) {
	c := up(t, lab.Options{Attach: lab.AttachRelay, IPv6: true})
	h := c.client("client1")
	for _, url := range c.urls("/bytes/5000000") {
		for range 6 {
			if err := download(t.Context(), h, url, 5000000); err != nil {
				t.Fatal(err)
			}
		}
	}
	if s := c.status(); s.HandoffsCompleted < 12 || s.RequestsProxied != 0 {
		t.Errorf("hand-offs: %v", s)
	}
}

func TestSeveralDispatchersShareAService(t *testing.T) {
	c := up(t, lab.Options{Dispatchers: 3})
	h := c.client("client1")
	for range 60 {
		if err := download(t.Context(), h, c.urls("/bytes/1000")[0], 1000); err != nil {
			t.Fatal(err)
		}
	}
	by := make(map[string]int)
	c.await(5*time.Second, func() string {
		r, err := c.operator.ListHandoffs(t.Context(), &shuntv1.ListHandoffsRequest{Limit: 60})
		if err != nil {
			t.Fatal(err)
		}
		clear(by)
		for _, h := range r.Handoffs {
			by[h.FromNode]++
		}
		if len(by) < 2 {
			return fmt.Sprintf("hand-offs by dispatcher: %v", by)
		}
		return ""
	})
}
