package registry

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
)

var epoch = time.Date(2026, 1, 1, 0, 0, 0, 0, time.UTC)

// sessionOf is the session of a client whose home is dispatcher1.
func sessionOf(client string) Session {
	return Session{
		Client: netip.MustParseAddrPort(client), VIP: netip.MustParseAddrPort("10.10.0.80:80"),
		Local: netip.MustParseAddrPort("172.31.0.1:80"), Service: "web", Home: "dispatcher1",
	}
}

// TestSessions plays the scripts in testdata/sessions. A line that starts with
// ">" is "TIME EVENT ARGUMENTS", the lines below it are the effects, those of
// one event sorted where order does not matter.
func TestSessions(t *testing.T) {
	files, err := filepath.Glob("testdata/sessions/*.txt")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	for _, f := range files {
		t.Run(strings.TrimSuffix(filepath.Base(f), ".txt"), func(t *testing.T) {
			text, err := os.ReadFile(f)
			if err != nil {
				t.Fatal(err)
			}
			var got strings.Builder
			table := NewSessions(DefaultTiming)
			for line := range strings.Lines(string(text)) {
				switch {
				case strings.HasPrefix(line, ">"):
					got.WriteString(line)
					got.WriteString(play(t, table, strings.Fields(line[1:])))
					consistent(t, table)
				case strings.HasPrefix(line, "#"), line == "\n":
					got.WriteString(line)
				}
			}
			if diff := cmp.Diff(string(text), got.String()); diff != "" {
				t.Errorf("script -, played +:\n%s", diff)
			}
		})
	}
}

// play performs one event and returns the effects as lines.
func play(t *testing.T, table *Sessions, f []string) string {
	t.Helper()
	after, err := time.ParseDuration(f[0])
	if err != nil {
		t.Fatal(err)
	}
	now := epoch.Add(after)
	var effects []Effect
	switch event, args := f[1], f[2:]; event {
	case "steer": // HANDOFF CLIENT NODE [ORIGIN HOP]
		s := sessionOf(args[1])
		s.ID, s.Node = args[0], args[2]
		if len(args) > 3 {
			hop, err := strconv.ParseUint(args[4], 10, 32)
			if err != nil {
				t.Fatal(err)
			}
			s.Origin, s.Hop = args[3], uint32(hop)
		}
		effects, err = table.Steer(now, s)
	case "unsteer": // HANDOFF CLIENT
		s := sessionOf(args[1])
		s.ID = args[0]
		effects = table.Unsteer(s)
	case "ended", "aborted": // NODE HANDOFF|- CLIENT [ORIGIN]
		s := sessionOf(args[2])
		s.Aborted = event == "aborted"
		s.Node, s.ID = args[0], strings.TrimPrefix(args[1], "-")
		if len(args) > 3 {
			s.Origin = args[3]
		}
		effects = table.Ended(now, s)
	case "list": // NODE ASKED CLIENT…
		asked, err := time.ParseDuration(args[1])
		if err != nil {
			t.Fatal(err)
		}
		var held []Session
		for _, c := range args[2:] {
			s := sessionOf(c)
			s.Node = args[0]
			held = append(held, s)
		}
		effects = table.Listed(now, epoch.Add(asked), args[0], held)
	case "here":
		table.Here(args[0])
	case "away":
		table.Away(now, args[0])
	case "kept":
		table.Kept(now, args[0])
	case "lost":
		effects = table.Lost(args[0])
	case "tick":
		effects = table.Tick(now)
	case "start":
		for _, s := range table.Start() {
			effects = append(effects, Effect{Action: Steer, Session: s})
		}
	default:
		t.Fatalf("unknown event %q", event)
	}
	if err != nil {
		t.Fatal(err)
	}
	var lines []string
	for _, e := range effects {
		s := e.Session
		switch e.Action {
		case Query:
			lines = append(lines, fmt.Sprintln("query", e.Node))
		case Steer:
			lines = append(lines, fmt.Sprintf("steer %v to %s by %q\n", s.Client, s.Node, s.ID))
		case Unsteer:
			lines = append(lines, fmt.Sprintf("unsteer %v by %q\n", s.Client, s.ID))
		case Release:
			of := ""
			if s.Origin != "" {
				of = " of " + s.Origin
			}
			if e.Lost {
				of += ", lost"
			}
			lines = append(lines, fmt.Sprintf("release %v at %s%s\n", s.Client, s.Home, of))
		default:
			lines = append(lines, fmt.Sprintln(e.Action, s.Client))
		}
	}
	switch f[1] {
	case "start", "list":
		slices.Sort(lines)
	case "tick": // only which node is asked first is by chance
		slices.SortStableFunc(lines, func(a, b string) int {
			if strings.HasPrefix(a, "query") && strings.HasPrefix(b, "query") {
				return strings.Compare(a, b)
			}
			return 0
		})
	}
	return strings.Join(lines, "")
}

// consistent checks that the table and its index by node agree.
func consistent(t *testing.T, table *Sessions) {
	t.Helper()
	n := 0
	for node, h := range table.nodes {
		n += len(h.sessions)
		for k, e := range h.sessions {
			if table.table[k] != e || e.Node != node {
				t.Errorf("%v is listed under %s and the table has %+v", k, node, table.table[k])
			}
		}
		if len(h.sessions) == 0 && h.away.IsZero() {
			t.Errorf("%s is kept for nothing", node)
		}
	}
	if n != len(table.table) {
		t.Errorf("nodes have %d sessions, the table %d", n, len(table.table))
	}
}

func TestTheTableIsBounded(t *testing.T) {
	table := NewSessions(DefaultTiming)
	table.limit = 1000
	s := sessionOf("10.0.0.0:1")
	s.Node = "server1"
	for i := range table.limit {
		s.Client = netip.AddrPortFrom(netip.AddrFrom4([4]byte{10, 0, byte(i >> 8), byte(i)}), 1)
		if _, err := table.Steer(epoch, s); err != nil {
			t.Fatalf("session %d: %v", i, err)
		}
	}
	one := sessionOf("11.0.0.1:1")
	one.Node = "server1"
	if _, err := table.Steer(epoch, one); !errors.Is(err, ErrFull) {
		t.Errorf("one more: %v, want ErrFull", err)
	}
	if _, err := table.Steer(epoch, s); err != nil {
		t.Errorf("an old one again: %v", err)
	}
	if effects := table.Listed(epoch, epoch, "server2", []Session{one}); len(effects) != 0 {
		t.Errorf("a full table took a listed session: %v", effects)
	}
}

func TestEarlyEndsAreBounded(t *testing.T) {
	table := NewSessions(DefaultTiming)
	for i := range maxEarly + 10 {
		s := sessionOf("10.0.0.1:1")
		s.Node, s.ID = "server1", fmt.Sprint("h", i)
		table.Ended(epoch, s)
	}
	if len(table.early) != maxEarly {
		t.Errorf("%d early ends are remembered, want %d", len(table.early), maxEarly)
	}
	table.Tick(epoch.Add(DefaultTiming.Settle))
	if len(table.early) != 0 {
		t.Errorf("%d early ends are remembered for ever", len(table.early))
	}
}
