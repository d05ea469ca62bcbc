package afpacket_test

import (
	"bytes"
	"errors"
	"testing"
	"time"

	"github.com/shunt-sdn/shunt/internal/testnet"
	"github.com/shunt-sdn/shunt/switchsim/afpacket"
	"github.com/shunt-sdn/shunt/switchsim/packet"
)

// pair opens both ends of a veth pair.
func pair(t *testing.T) (a, b *afpacket.Port) {
	t.Helper()
	ns, far := testnet.NewNS(t), testnet.NewNS(t)
	testnet.Veth(ns, "a", far, "b")
	for _, end := range []struct {
		ns   *testnet.NS
		name string
		port **afpacket.Port
	}{{ns, "a", &a}, {far, "b", &b}} {
		end.ns.Do(func() (err error) {
			*end.port, err = afpacket.Open(end.name)
			return err
		})
		t.Cleanup(func() { (*end.port).Close() })
	}
	// Until the kernel has seen the links' carriers it drops what they send and
	// says nothing: try both ways.
	for _, way := range [][2]*afpacket.Port{{a, b}, {b, a}} {
		w, arrived := afpacket.NewWriter(), make(chan error, 1)
		go func() { _, err := readType(way[1], warmUp, 1); arrived <- err }()
		tick := time.NewTicker(5 * time.Millisecond)
		for waiting := true; waiting; {
			w.Add(frameOf(warmUp, 60), packet.Offload{})
			w.Flush(way[0])
			select {
			case err := <-arrived:
				if err != nil {
					t.Fatal(err)
				}
				waiting = false
			case <-tick.C:
			}
		}
		tick.Stop()
	}
	return a, b
}

// Two EtherTypes for local experiments: the tests' and the warm-up's.
var ours, warmUp = []byte{0x88, 0xb5}, []byte{0x88, 0xb6}

// frame is a frame of our type.
func frame(size int, tag ...byte) []byte { return frameOf(ours, size, tag...) }

func frameOf(typ []byte, size int, tag ...byte) []byte {
	f := append([]byte{2, 0, 0, 0, 0, 2, 2, 0, 0, 0, 0, 1}, tag...)
	f = append(f, typ...)
	for len(f) < size {
		f = append(f, byte(len(f)))
	}
	return f
}

// read returns frames of our type from p, as many as are asked for.
func read(t *testing.T, p *afpacket.Port, n int) []afpacket.Frame {
	t.Helper()
	out, err := readType(p, ours, n)
	if err != nil {
		t.Fatalf("after %d frames: %v", len(out), err)
	}
	return out
}

func readType(p *afpacket.Port, typ []byte, n int) (out []afpacket.Frame, err error) {
	stop := time.AfterFunc(10*time.Second, func() { p.Close() })
	defer stop.Stop()
	for b := afpacket.NewBatch(); len(out) < n; {
		if err := p.Read(b); err != nil {
			return out, err
		}
		for _, f := range b.Frames {
			if bytes.Contains(f.Data[12:18], typ) {
				out = append(out, afpacket.Frame{Data: bytes.Clone(f.Data), Offload: f.Offload})
			}
		}
	}
	return out, nil
}

func TestFramesArriveInOrderAndWhole(t *testing.T) {
	a, b := pair(t)
	w := afpacket.NewWriter()
	var want [][]byte
	for i := range 100 {
		f := frame(60 + 14*i)
		want = append(want, f)
		if !w.Add(f, packet.Offload{}) {
			if s := w.Flush(a); s.Packets != afpacket.BatchSize || s.Dropped != 0 {
				t.Fatalf("sent %+v", s)
			}
			w.Add(f, packet.Offload{})
		}
	}
	w.Flush(a)
	for i, f := range read(t, b, len(want)) {
		if !bytes.Equal(f.Data, want[i]) {
			t.Fatalf("frame %d of %d octets arrived as %d octets", i, len(want[i]), len(f.Data))
		}
	}
}

func TestTagsAreInTheFrame(t *testing.T) {
	a, b := pair(t)
	want := frame(100, 0x81, 0, 0x60, 0x2a)
	w := afpacket.NewWriter()
	w.Add(want, packet.Offload{})
	w.Flush(a)
	if got := read(t, b, 1)[0]; !bytes.Equal(got.Data, want) {
		t.Errorf("got\n% x, want\n% x", got.Data, want)
	}
}

func TestFramesTooLargeAreDroppedAndCounted(t *testing.T) {
	a, b := pair(t)
	w := afpacket.NewWriter()
	w.Add(frame(5000), packet.Offload{})
	w.Add(frame(100), packet.Offload{})
	if s := w.Flush(a); s.Packets != 1 || s.Dropped != 1 || s.Bytes != 100 {
		t.Errorf("sent %+v, want 1 packet of 100 octets and 1 dropped", s)
	}
	if got := read(t, b, 1)[0]; len(got.Data) != 100 {
		t.Errorf("%d octets arrived", len(got.Data))
	}
}

func TestWhatAPortSendsItDoesNotReceive(t *testing.T) {
	a, b := pair(t)
	for _, p := range []*afpacket.Port{a, b} {
		w := afpacket.NewWriter()
		w.Add(frame(60+p.Index), packet.Offload{})
		w.Flush(p)
	}
	if got := read(t, a, 1)[0]; len(got.Data) != 60+b.Index {
		t.Errorf("the port received %d octets, want the other's %d", len(got.Data), 60+b.Index)
	}
}

func TestCloseEndsARead(t *testing.T) {
	a, _ := pair(t)
	ended := make(chan error, 1)
	go func() {
		b := afpacket.NewBatch()
		for {
			if err := a.Read(b); err != nil {
				ended <- err
				return
			}
		}
	}()
	a.Close()
	select {
	case err := <-ended:
		if !errors.Is(err, afpacket.ErrClosed) {
			t.Errorf("ended with %v", err)
		}
	case <-time.After(10 * time.Second):
		t.Fatal("Read goes on")
	}
}

func TestOpenNamesTheInterface(t *testing.T) {
	if _, err := afpacket.Open("no-such-link"); err == nil || !bytes.Contains([]byte(err.Error()), []byte("no-such-link")) {
		t.Errorf("error %v", err)
	}
}
