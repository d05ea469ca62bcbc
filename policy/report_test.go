package policy

import "testing"

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
