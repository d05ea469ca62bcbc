package policy

import (
	"fmt"
	"testing"
)

// What a server says as it takes a request counts more than what was reported
// of it before; what it was sent beside that stays on its load.
func TestAServersOwnWordOfItsLoad(t *testing.T) {
	b := newBed(t, []Pool{{Name: "app", Algorithm: LeastConnections, Members: members(2)}})
	b.st.SetLoad("s1", 3)
	b.st.SetLoad("s2", 10)
	r, _ := b.e.Route("web", new(Request))
	for range 2 {
		if c, ok := r.Choose(new(Request), nil); !ok || c.Server != "s1" {
			t.Fatalf("chose %+v", c)
		}
	}
	if n := b.st.Load("s1"); n != 5 {
		t.Errorf("load %d, want 3 reported and 2 sent", n)
	}
	b.st.Took("s1", 20) // others send to it too
	if n := b.st.Load("s1"); n != 21 {
		t.Errorf("load %d, want 20 that it told and 1 on its way", n)
	}
	if c, _ := r.Choose(new(Request), nil); c.Server != "s2" {
		t.Errorf("chose %+v", c)
	}
	b.st.Took("s9", 4) // nobody knows it
	if n := b.st.Load("s9"); n != 0 {
		t.Errorf("load %d of a server that there is not", n)
	}
}

// A request that no agent sees is on its server's load until it is over.
func TestWhatIsInNoReportStaysOnTheLoad(t *testing.T) {
	b := newBed(t, []Pool{{Name: "app", Members: members(1)}})
	r, _ := b.e.Route("web", new(Request))
	r.Choose(new(Request), nil)
	release := b.st.Hold("s1")
	b.st.SetLoad("s1", 7)
	if n := b.st.Load("s1"); n != 8 {
		t.Errorf("load %d, want 7 reported and 1 held", n)
	}
	release()
	if n := b.st.Load("s1"); n != 7 {
		t.Errorf("load %d, want 7", n)
	}
}

// A server's agent counts its answers; new failures, enough of them in a row,
// take it out of the pools where they count, and of no others.
func TestAServerIsEjectedForItsAnswers(t *testing.T) {
	pools := []Pool{{Name: "app", Members: members(2), Ejection: &Ejection{Failures: 3, ServerErrors: true}}, {Name: "other", Members: members(2), Ejection: &Ejection{Failures: 3}}}
	b := newBed(t, pools, Route{Name: "other", Pool: "other"})
	ejected := func() (in []string) {
		for _, s := range b.st.States() {
			if s.Health == Ejected {
				in = append(in, s.Pool+"/"+s.Server)
			}
		}
		return in
	}
	// Another application of the node is another matter.
	if b.e.Answered("s1", "api", 0, 0); b.e.Answered("s1", "api", 9, 9) {
		t.Error("ejected for what it answers to requests of another service")
	}
	for _, c := range []struct {
		what   string
		errors uint64
		inARow uint32
		want   bool
	}{
		{"what was before this node began", 100, 50, false},
		{"nothing new", 100, 50, false},
		{"too few in a row", 102, 2, false},
		{"its agent began anew", 2, 2, false},
		{"enough", 3, 3, true},
		{"it is out already", 9, 9, false},
	} {
		if got := b.e.Answered("s1", "web", c.errors, c.inARow); got != c.want {
			t.Errorf("%s: ejected %v", c.what, got)
		}
	}
	if got := fmt.Sprint(ejected()); got != "[app/s1]" {
		t.Errorf("ejected: %s", got)
	}
	if b.e.Answered("s2", "web", 0, 0); b.e.Answered("s2", "web", 9, 9) {
		t.Error("both of two are ejected; at most half shall be")
	}
	b.advance(DefaultEjectionBase)
	if b.e.Answered("s1", "web", 9, 9); len(ejected()) != 0 {
		t.Errorf("ejected again without a new failure: %v", ejected())
	}
}

// A pool that several services lead to, by a backup as well, counts the answers to
// requests of all of them.
func TestAServerIsEjectedForItsAnswersToAnyOfAPoolsServices(t *testing.T) {
	x := &Ejection{Failures: 3, ServerErrors: true}
	m := &Model{
		Services: []Service{
			{Name: "web", DefaultPool: "main", Servers: []string{"s1", "s2"}},
			{Name: "api", DefaultPool: "main", Servers: []string{"s1", "s2"}},
			{Name: "old", DefaultPool: "own", Servers: []string{"s1", "s2"}},
		},
		Pools: []Pool{
			{Name: "main", Members: members(2), Backup: "spare", Ejection: x}, {Name: "spare", Members: members(2), Ejection: x},
			{Name: "own", Ejection: x},
		},
	}
	for service, want := range map[string]string{"web": "[main/s1 spare/s1]", "api": "[main/s1 spare/s1]", "old": "[old/own/s1]", "none": "[]"} {
		b := newBed(t, nil)
		e, err := Compile(m, b.st)
		if err != nil {
			t.Fatal(err)
		}
		e.Answered("s1", service, 0, 0)
		e.Answered("s1", service, 3, 3)
		in := []string{}
		for _, s := range b.st.States() {
			if s.Health == Ejected {
				in = append(in, s.Pool+"/"+s.Server)
			}
		}
		if got := fmt.Sprint(in); got != want {
			t.Errorf("answers of %s: ejected %s, want %s", service, got, want)
		}
	}
}
