package lost

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/netip"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
)

var (
	client = netip.MustParseAddrPort("10.10.1.2:4000")
	other  = netip.MustParseAddrPort("[fd10:1::2]:4000")
	local  = netip.MustParseAddrPort("172.31.0.1:80")
)

// host writes down what a herald does to it.
type host struct {
	begun  time.Time
	moving map[netip.AddrPort]bool
	fail   error

	mu  sync.Mutex
	did []string
}

func (h *host) note(what string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.did = append(h.did, fmt.Sprintf("%v %s", time.Since(h.begun), what))
}

// run runs a herald in a bubble in which time passes only when all wait.
func run(t *testing.T, f func(t *testing.T, h *Herald, host *host)) {
	synctest.Test(t, func(t *testing.T) {
		o := &host{begun: time.Now(), moving: make(map[netip.AddrPort]bool)}
		h := New(Options{
			Moving: func(c, _ netip.AddrPort) bool {
				o.mu.Lock()
				defer o.mu.Unlock()
				return o.moving[c]
			},
			Release: func(c, _ netip.AddrPort, owner uint64) error {
				o.note(fmt.Sprintf("release %v of %d", c, owner))
				return o.fail
			},
			Probe: func(c, _ netip.AddrPort) error { o.note(fmt.Sprint("probe ", c)); return nil },
			Log:   slog.New(slog.DiscardHandler),
		})
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error, 1)
		go func() { done <- h.Run(ctx) }()
		f(t, h, o)
		cancel()
		if err := <-done; err != nil {
			t.Error(err)
		}
	})
}

// after is what was done when a time has passed; nothing is left to do then.
func (o *host) after(t *testing.T, h *Herald, d time.Duration, want ...string) {
	t.Helper()
	<-time.After(d)
	synctest.Wait()
	o.mu.Lock()
	defer o.mu.Unlock()
	slices.Sort(o.did)
	slices.Sort(want)
	if diff := cmp.Diff(want, o.did); diff != "" {
		t.Errorf("want -, did +:\n%s", diff)
	}
	if len(h.losses) != 0 {
		t.Errorf("%d are not done with", len(h.losses))
	}
}

func TestAClientIsProbedAFewTimes(t *testing.T) {
	run(t, func(t *testing.T, h *Herald, o *host) {
		h.Tell(client, local)
		<-time.After(time.Second)
		h.Tell(client, local) // that is known
		h.Tell(other, local)
		o.after(t, h, time.Minute,
			"0s probe 10.10.1.2:4000", "600ms probe 10.10.1.2:4000", "1.8s probe 10.10.1.2:4000", "4.2s probe 10.10.1.2:4000",
			"1s probe [fd10:1::2]:4000", "1.6s probe [fd10:1::2]:4000", "2.8s probe [fd10:1::2]:4000", "5.2s probe [fd10:1::2]:4000")
	})
}

func TestADiversionGoesFirst(t *testing.T) {
	run(t, func(t *testing.T, h *Herald, o *host) {
		h.Tell(client, local)
		synctest.Wait()
		h.Diverted(client, local, 7)
		o.after(t, h, time.Minute,
			"0s probe 10.10.1.2:4000", "0s release 10.10.1.2:4000 of 7", "0s probe 10.10.1.2:4000",
			"600ms probe 10.10.1.2:4000", "1.8s probe 10.10.1.2:4000", "4.2s probe 10.10.1.2:4000")
	})
}

func TestAHandoffThatIsUnderWayIsWaitedForIfItsDiversionIsMeant(t *testing.T) {
	run(t, func(t *testing.T, h *Herald, o *host) {
		o.moving[client], o.moving[other] = true, true
		h.Tell(other, local)
		h.Diverted(client, local, 7)
		<-time.After(900 * time.Millisecond)
		o.mu.Lock()
		clear(o.moving)
		o.mu.Unlock()
		o.after(t, h, time.Minute,
			"1s release 10.10.1.2:4000 of 7", "1s probe 10.10.1.2:4000", "1.6s probe 10.10.1.2:4000",
			"2.8s probe 10.10.1.2:4000", "5.2s probe 10.10.1.2:4000")
	})
}

func TestAReleaseThatFailsIsTriedAgain(t *testing.T) {
	run(t, func(t *testing.T, h *Herald, o *host) {
		o.fail = errors.New("the map is gone")
		h.Diverted(client, local, 7)
		o.after(t, h, time.Minute,
			"0s release 10.10.1.2:4000 of 7", "600ms release 10.10.1.2:4000 of 7",
			"1.8s release 10.10.1.2:4000 of 7", "4.2s release 10.10.1.2:4000 of 7")
	})
}
