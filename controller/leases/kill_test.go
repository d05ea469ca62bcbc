package leases_test

import (
	"bufio"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/controller/leases"
)

// childPath in the environment makes the test binary a process that leases and
// frees until it is killed, and says on stdout what it was promised.
const childPath = "SHUNT_TEST_LEASE_CHILD"

var killPools = []netip.Prefix{netip.MustParsePrefix("10.0.0.0/20"), netip.MustParsePrefix("fd00::/100")}

func TestMain(m *testing.M) {
	if path := os.Getenv(childPath); path != "" {
		if err := leaseForEver(path); err != nil {
			fmt.Println("error", err)
			os.Exit(1)
		}
	}
	os.Exit(m.Run())
}

func leaseForEver(path string) error {
	s, err := leases.Open(path)
	if err != nil {
		return err
	}
	for i := 0; ; i++ {
		k := leases.Key{Service: fmt.Sprint("s", i%7), Dispatcher: fmt.Sprint("d", i%101), IPv6: i%2 == 1}
		got, err := s.Assign(killPools, k)
		if err != nil {
			return err
		}
		index, err := s.Index(leases.KindAddress, got[k].String())
		if err != nil {
			return err
		}
		fmt.Println("leased", k, got[k], index)
		if i%50 == 49 {
			gone := fmt.Sprint("s", i/50%7)
			fmt.Println("freeing", gone)
			if _, err := s.Retain(func(k leases.Key, _ netip.Addr) bool { return k.Service != gone }); err != nil {
				return err
			}
		}
	}
}

// TestAKilledControllerBreaksNoPromise kills a writer again and again. What it
// said it had leased must still be leased, and no address to two holders.
func TestAKilledControllerBreaksNoPromise(t *testing.T) {
	path := filepath.Join(t.TempDir(), "controller.db")
	promised := map[string]string{} // key → "address index"
	for round := range 8 {
		freeing := writeUntilKilled(t, path, 20+37*round, promised)
		s, err := leases.Open(path)
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		all, err := s.All()
		if err != nil {
			t.Fatalf("round %d: %v", round, err)
		}
		holders, kept := map[netip.Addr]leases.Key{}, map[string]bool{}
		for _, l := range all {
			if h, ok := holders[l.Address]; ok {
				t.Errorf("round %d: %v leased to %v and %v", round, l.Address, h, l.Key)
			}
			holders[l.Address] = l.Key
			kept[l.Key.String()] = true
			index, err := s.Index(leases.KindAddress, l.Address.String())
			if err != nil {
				t.Fatal(err)
			}
			got := fmt.Sprint(l.Address, " ", index)
			if want, ok := promised[l.Key.String()]; ok && want != got {
				t.Errorf("round %d: %v was promised %s, has %s", round, l.Key, want, got)
			}
			promised[l.Key.String()] = got
		}
		for k := range promised {
			if !kept[k] {
				if service, _, _ := strings.Cut(k, "/"); service != freeing {
					t.Errorf("round %d: the lease of %s is lost", round, k)
				}
				delete(promised, k)
			}
		}
		s.Close()
	}
}

// writeUntilKilled runs a writer, kills it after that many lines, and notes
// what it promised. It returns the service whose leases it was freeing, if any.
func writeUntilKilled(t *testing.T, path string, lines int, promised map[string]string) (freeing string) {
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
		switch f := strings.Fields(scanner.Text()); f[0] {
		case "leased":
			if freeing != "" {
				forget(promised, freeing)
				freeing = ""
			}
			promised[f[1]] = f[2] + " " + f[3]
		case "freeing":
			freeing = f[1]
		default:
			t.Fatalf("writer: %s", scanner.Text())
		}
	}
	cmd.Wait() // killed: its error says nothing
	return freeing
}

func forget(promised map[string]string, service string) {
	for k := range promised {
		if strings.HasPrefix(k, service+"/") {
			delete(promised, k)
		}
	}
}
