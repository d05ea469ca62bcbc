package netns

import (
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"slices"
	"strings"
	"testing"

	"github.com/shunt-sdn/shunt/internal/testnet"
)

func create(t *testing.T, suffix string) (string, *Stack) {
	t.Helper()
	testnet.NeedRoot(t)
	name := fmt.Sprintf("shunt-nstest-%d-%s", os.Getpid(), suffix)
	if err := Create(name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := Delete(name); err != nil {
			t.Error(err)
		}
		Unshare()
	})
	s, err := OpenStack(name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.Close)
	return name, s
}

func TestAName(t *testing.T) {
	name, _ := create(t, "a")
	if err := Create(name); err == nil || !strings.Contains(err.Error(), "ip netns del "+name) {
		t.Errorf("create again: %v", err)
	}
	if names, err := Names(func(n string) bool { return n == name }); err != nil || len(names) != 1 {
		t.Errorf("names: %v, %v", names, err)
	}
	for range 2 {
		if err := Delete(name); err != nil {
			t.Errorf("delete: %v", err)
		}
	}
	if err := Do(name, func() error { return nil }); err == nil {
		t.Error("entered a namespace that is gone")
	}
	if pids, err := Processes(name); err != nil || len(pids) > 0 {
		t.Errorf("processes: %v, %v", pids, err)
	}
}

func TestProcessesAreThoseInside(t *testing.T) {
	name, _ := create(t, "a")
	other, _ := create(t, "b")
	cmd := exec.CommandContext(t.Context(), "sleep", "600")
	if err := Do(name, cmd.Start); err != nil {
		t.Fatal(err)
	}
	defer cmd.Wait()
	defer cmd.Process.Kill()
	pids, err := Processes(name)
	if err != nil || !slices.Equal(pids, []int{cmd.Process.Pid}) {
		t.Errorf("processes: %v, %v, want %d", pids, err, cmd.Process.Pid)
	}
	if pids, err := Processes(other); err != nil || len(pids) > 0 {
		t.Errorf("processes of another namespace: %v, %v", pids, err)
	}
}

func TestThisProcessStaysWhereItIs(t *testing.T) {
	name, _ := create(t, "a")
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		t.Fatal(err)
	}
	var there string
	if err := Do(name, func() (err error) { there, err = os.Readlink("/proc/thread-self/ns/net"); return err }); err != nil {
		t.Fatal(err)
	}
	if there == here {
		t.Error("Do stayed outside")
	}
	for range 20 {
		if now, _ := os.Readlink("/proc/thread-self/ns/net"); now != here {
			t.Fatalf("a thread was left in %s", now)
		}
	}
}

func TestLinksAddressesRoutesAndCounters(t *testing.T) {
	a, as := create(t, "a")
	b, bs := create(t, "b")
	check := func(err error) {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
	}
	mac := net.HardwareAddr{2, 0, 0, 0, 0, 1}
	check(Veth(Link{Stack: as, Name: "eth0", MAC: mac}, Link{Stack: bs, Name: "port"}))
	check(bs.Bridge("br", "port"))
	check(as.Rate("eth0", 10e6))
	for _, family := range [][3]string{{"10.0.0.1/24", "10.0.0.2/24", "10.9.9.9:9"}, {"fd00::1/64", "fd00::2/64", "[fd09::9]:9"}} {
		gateway := netip.MustParsePrefix(family[1])
		check(as.Address("eth0", netip.MustParsePrefix(family[0])))
		check(bs.Address("br", gateway))
		check(as.DefaultRoute(gateway.Addr()))
		before, err := bs.Counters("port")
		check(err)
		check(Do(a, func() error {
			c, err := net.Dial("udp", family[2])
			if err != nil {
				return err
			}
			defer c.Close()
			_, err = c.Write(make([]byte, 1000))
			return err
		}))
		// Delivery over a veth pair takes an instant.
		for {
			now, err := bs.Counters("port")
			check(err)
			if now.Received >= before.Received+1000 {
				break
			}
			if t.Context().Err() != nil {
				t.Fatal("nothing arrived")
			}
		}
	}
	check(as.Sysctl("ipv4.ip_forward", "1"))
	for name, want := range map[string]string{a: "1\n", b: "0\n"} {
		var got []byte
		check(Do(name, func() (err error) { got, err = os.ReadFile("/proc/sys/net/ipv4/ip_forward"); return err }))
		if string(got) != want {
			t.Errorf("ip_forward in %s is %q, want %q", name, got, want)
		}
	}
	if err := as.Up("eth9"); err == nil || !strings.Contains(err.Error(), "eth9") {
		t.Errorf("set up a link that is not there: %v", err)
	}
}
