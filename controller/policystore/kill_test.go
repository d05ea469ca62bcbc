package policystore_test

import (
	"bufio"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/controller/leases"
	"github.com/shunt-sdn/shunt/controller/policystore"
	"github.com/shunt-sdn/shunt/policy/fault"
	shuntv1 "github.com/shunt-sdn/shunt/proto/shunt/v1"
)

// childPath in the environment makes the test binary a process that changes a
// policy until it is killed, and says on stdout what it was promised.
const childPath = "SHUNT_TEST_POLICY_CHILD"

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if err := changeForEver(path); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func anything(*shuntv1.Policy) (fault.List, error) { return nil, nil }

// changeForEver makes revisions in which every resource carries the revision,
// and whose number of pools follows from it.
func changeForEver(path string) error {
	db, err := leases.Open(path)
	if err != nil {
		return err
	}
	s, err := policystore.Open(db.DB())
	if err != nil {
		return err
	}
	for {
		next := s.State().Revision + 1
		if _, _, err := s.Update(func(state *policystore.State) (*policystore.Plan, error) {
			return state.Apply(&shuntv1.ApplyRequest{Policy: policyAt(next), Prune: true}, anything)
		}); err != nil {
			return err
		}
		fmt.Println("stored", next)
		if err := s.KeepHealth([]*shuntv1.ServerState{{Server: fmt.Sprint(next), Health: shuntv1.HealthState_HEALTH_STATE_UNHEALTHY}}); err != nil {
			return err
		}
	}
}

func policyAt(revision uint64) *shuntv1.Policy {
	p := &shuntv1.Policy{Services: []*shuntv1.ServicePolicy{{Name: "web", DefaultPool: fmt.Sprint("p", revision)}}}
	for i := range 1 + revision%7 {
		p.Pools = append(p.Pools, &shuntv1.Pool{Name: fmt.Sprint("pool", i), PanicPercent: uint32(revision)})
	}
	return p
}

// TestAKilledControllerLeavesAWholePolicy kills a writer again and again: what
// is on the disk is one revision, not before the last that was promised.
func TestAKilledControllerLeavesAWholePolicy(t *testing.T) {
	path := filepath.Join(t.TempDir(), "controller.db")
	for round := range 5 {
		promised := changeUntilKilled(t, path, 5+13*round)
		db, err := leases.Open(path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		s, err := policystore.Open(db.DB())
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		state := s.State()
		if state.Revision < promised || state.Revision > promised+1 {
			t.Errorf("round %d: revision %d, %d was promised", round, state.Revision, promised)
		}
		want := policyAt(state.Revision)
		if len(state.Policy.Pools) != len(want.Pools) || state.Policy.Services[0].DefaultPool != want.Services[0].DefaultPool {
			t.Errorf("round %d: revision %d has %v", round, state.Revision, state.Policy)
		}
		for _, p := range state.Policy.Pools {
			if p.PanicPercent != uint32(state.Revision) || p.Version != state.Revision {
				t.Errorf("round %d: revision %d has pool %v", round, state.Revision, p)
			}
		}
		if h, err := s.Health(); err != nil || len(h) != 1 {
			t.Errorf("round %d: health %v, %v", round, h, err)
		}
		db.Close()
	}
}

// changeUntilKilled runs a writer, kills it after that many lines, and returns
// the last revision that it was promised.
func changeUntilKilled(t *testing.T, path string, lines int) (promised uint64) {
	t.Helper()
	cmd := exec.Command(os.Args[0], "-test.run=^$")
	cmd.Env = append(os.Environ(), childPath+"="+path)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	scanner := bufio.NewScanner(out)
	for n := 0; scanner.Scan(); n++ {
		if n == lines {
			if err := cmd.Process.Kill(); err != nil {
				t.Fatal(err)
			}
		}
		rest, ok := strings.CutPrefix(scanner.Text(), "stored ")
		if !ok {
			t.Fatalf("writer: %s", scanner.Text())
		}
		if promised, err = strconv.ParseUint(rest, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	cmd.Wait() // killed: its error says nothing
	return promised
}
