package migration

import (
	"bufio"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// TestScripts replays testdata/*.txt. A line is "event => effects [state]";
// "start" begins, "!event" must be refused. Update the scripts by hand: they
// are the specification.
func TestScripts(t *testing.T) {
	files, err := filepath.Glob("testdata/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, name := range files {
		t.Run(strings.TrimSuffix(filepath.Base(name), ".txt"), func(t *testing.T) {
			f, err := os.Open(name)
			if err != nil {
				t.Fatal(err)
			}
			defer f.Close()
			replay(t, f)
		})
	}
}

func replay(t *testing.T, f *os.File) {
	var m *Machine
	n := 0
	for sc := bufio.NewScanner(f); sc.Scan(); {
		n++
		line, _, _ := strings.Cut(sc.Text(), "#")
		line = strings.TrimSpace(line)
		if line == "" {
			continue
		}
		event, want, _ := strings.Cut(line, "=>")
		event, want = strings.TrimSpace(event), strings.Join(strings.Fields(want), " ")
		var effects []Effect
		var err error
		if event == "start" {
			m, effects = New(2)
		} else {
			effects, err = m.Step(eventNamed(t, strings.TrimPrefix(event, "!")))
		}
		if refused := strings.HasPrefix(event, "!"); refused != (err != nil) {
			t.Fatalf("line %d: %s: error %v", n, event, err)
		}
		got := strings.Join(strings.Fields(fmt.Sprint(effects, " ")), " ")
		got = strings.Trim(got, "[] ") + " [" + m.State().String() + "]"
		if got = strings.TrimSpace(got); got != want {
			t.Errorf("line %d: %s\n got  %s\n want %s", n, event, got, want)
		}
	}
}

func eventNamed(t *testing.T, name string) Event {
	i := slices.Index(eventNames[:], name)
	if i < 0 {
		t.Fatalf("no event is named %q", name)
	}
	return Event(i)
}

// TestNeverTwoLiveCopies walks every sequence of up to 9 events and checks the
// invariants on a model of the two ends.
func TestNeverTwoLiveCopies(t *testing.T) {
	type world struct {
		m                         Machine
		frozen, diverted, steered bool
		held                      bool // the source holds a socket
		target                    byte // ' ' nothing, 'o' offered, 'i' imported, 'x' will never be
	}
	var walk func(w world, depth int, trail []string)
	apply := func(w *world, effects []Effect, trail []string) {
		for _, e := range effects {
			switch e {
			case Divert:
				w.diverted = true
			case Capture:
				w.frozen = true
			case Offer:
				if !w.frozen || !w.diverted {
					t.Fatalf("%v: offered a connection that still receives", trail)
				}
				w.target = 'o'
			case Steer:
				w.steered = true
			case Unsteer:
				w.steered = false
			case Undivert:
				w.diverted = false
			case Thaw:
				if w.target == 'o' || w.target == 'i' {
					t.Fatalf("%v: thawed while the target may have it", trail)
				}
				w.frozen = false
			case Close:
				if w.held && !w.frozen {
					t.Fatalf("%v: silently closed a live connection", trail)
				}
				w.held = false
			case Proxy, Reject:
				if w.frozen || w.diverted || w.steered {
					t.Fatalf("%v: %v on a connection that is not here", trail, e)
				}
			case Choose:
				if w.frozen || w.diverted || w.steered {
					t.Fatalf("%v: chose again with the last attempt half undone", trail)
				}
			}
		}
	}
	walk = func(w world, depth int, trail []string) {
		if depth == 0 || w.m.State() == Done {
			if w.m.State() == Done && w.held && w.frozen {
				t.Fatalf("%v: a frozen copy was left behind", trail)
			}
			return
		}
		for e := ServerChosen; e <= Closed; e++ {
			next := w
			effects, err := next.m.Step(e)
			if err != nil {
				continue
			}
			switch e { // what the event says of the target is true
			case Imported:
				next.target = 'i'
			case Refused:
				next.target = 'x'
			}
			at := append(slices.Clone(trail), e.String())
			apply(&next, effects, at)
			walk(next, depth-1, at)
		}
	}
	m, _ := New(2)
	walk(world{m: *m, held: true, target: ' '}, 9, nil)
}
