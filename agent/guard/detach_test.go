package guard

import (
	"fmt"
	"os"
	"testing"
)

func TestDetachLeavesNothing(t *testing.T) {
	for _, force := range both {
		t.Run(fmt.Sprintf("clsact %v", force), func(t *testing.T) {
			x := lone(t)
			x.open(Options{MaxDivert: 1024, ForceClsact: force})
			if err := x.g.Divert(stray(families[0]), families[0].session, x.mac, 0); err != nil {
				t.Fatal(err)
			}
			if err := x.g.Detach(); err != nil { // on a thread in another namespace
				t.Fatal(err)
			}
			x.wantAttached(0, 0)
			if err := x.g.Close(); err != nil {
				t.Errorf("Close after Detach: %v", err)
			}
			x.open(Options{MaxDivert: 1024, ForceClsact: force})
			if _, ok, err := x.g.Diverted(stray(families[0]), families[0].session); ok || err != nil {
				t.Errorf("diverted %v, %v after a clean stop", ok, err)
			}
		})
	}
}

func TestDetachOfAnInterfaceThatIsGoneSucceeds(t *testing.T) {
	for _, force := range both {
		x := lone(t)
		x.open(Options{MaxDivert: 1024, ForceClsact: force})
		l, err := x.Link.LinkByName("eth0")
		if err == nil {
			err = x.Link.LinkDel(l)
		}
		if err != nil {
			t.Fatal(err)
		}
		if err := x.g.Detach(); err != nil {
			t.Errorf("clsact %v: %v", force, err)
		}
	}
}

func TestNoDescriptorIsLeaked(t *testing.T) {
	x := lone(t)
	open := func() int {
		fds, err := os.ReadDir("/proc/self/fd")
		if err != nil {
			t.Fatal(err)
		}
		return len(fds)
	}
	x.open(Options{MaxDivert: 1024}) // also what the library keeps for good
	x.g.Close()
	before := open()
	for i := range 20 {
		force := i%2 == 1 // adopts from the other hook each time
		x.Do(func() error {
			g, err := Open(Options{Interface: "eth0", MaxDivert: 1024, ForceClsact: force, Log: quiet})
			if err != nil {
				return err
			}
			if i == 10 {
				return g.Detach()
			}
			return g.Close()
		})
		x.Try(func() error { _, err := Open(Options{Interface: "lo", Log: quiet}); return err })
	}
	if after := open(); after > before {
		t.Errorf("%d descriptors before, %d after", before, after)
	}
}
