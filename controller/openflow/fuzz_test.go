package openflow_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"testing"

	"github.com/google/go-cmp/cmp"

	of "github.com/shunt-sdn/shunt/controller/openflow"
)

// recode decodes a message and encodes what it says. ok is false for messages
// without a model of their own (or when half of it is not modelled).
func recode(m of.Message) (decoded any, again []of.Message, ok bool, err error) {
	one := func(v any, m of.Message, err error) (any, []of.Message, bool, error) {
		return v, []of.Message{m}, true, err
	}
	switch m.Type() {
	case of.TypeFlowMod:
		v, err := of.ParseFlowMod(m)
		if err != nil {
			return nil, nil, false, err
		}
		b, err := of.EncodeFlowMod(m.Xid(), v)
		return one(v, b, err)
	case of.TypePacketOut:
		v, err := of.ParsePacketOut(m)
		if err != nil {
			return nil, nil, false, err
		}
		b, err := of.EncodePacketOut(m.Xid(), v)
		return one(v, b, err)
	case of.TypePacketIn:
		v, err := of.ParsePacketIn(m)
		if err != nil {
			return nil, nil, false, err
		}
		if v.TotalLen == 0 {
			v.TotalLen = len(v.Data) // 0 means that when encoding
		}
		b, err := of.EncodePacketIn(m.Xid(), v)
		return one(v, b, err)
	case of.TypeGroupMod:
		v, err := of.ParseGroupMod(m)
		if err != nil {
			return nil, nil, false, err
		}
		b, err := of.EncodeGroupMod(m.Xid(), v)
		return one(v, b, err)
	case of.TypeMultipartRequest:
		v, err := of.ParseMultipartRequest(m)
		if err != nil {
			return nil, nil, false, err
		}
		b, err := of.EncodeMultipartRequest(m.Xid(), v)
		return one(v, b, err)
	case of.TypeMultipartReply:
		return recodeReply(m)
	case of.TypePortStatus:
		v, err := of.ParsePortStatus(m)
		if err != nil {
			return nil, nil, false, err
		}
		return one(v, of.EncodePortStatus(m.Xid(), v), nil)
	case of.TypeRoleRequest:
		r, g, err := of.ParseRoleRequest(m)
		if err != nil {
			return nil, nil, false, err
		}
		return one([]any{r, g}, of.EncodeRoleRequest(m.Xid(), r, g), nil)
	case of.TypeRoleReply:
		r, g, err := of.ParseRoleReply(m)
		if err != nil {
			return nil, nil, false, err
		}
		return one([]any{r, g}, of.EncodeRoleReply(m.Xid(), r, g), nil)
	case of.TypeSetAsync:
		v, err := of.ParseSetAsync(m)
		if err != nil {
			return nil, nil, false, err
		}
		return one(v, of.EncodeSetAsync(m.Xid(), v), nil)
	case of.TypeSetConfig:
		v, err := of.ParseSetConfig(m)
		if err != nil {
			return nil, nil, false, err
		}
		return one(v, of.EncodeSetConfig(m.Xid(), v), nil)
	case of.TypeFeaturesReply:
		v, err := of.ParseFeaturesReply(m)
		if err != nil {
			return nil, nil, false, err
		}
		return one(v, of.EncodeFeaturesReply(m.Xid(), v), nil)
	case of.TypeFlowRemoved:
		v, err := of.ParseFlowRemoved(m)
		if err != nil || v.Match.Check() != nil {
			return nil, nil, false, err
		}
		b, err := of.EncodeFlowRemoved(m.Xid(), v)
		return one(v, b, err)
	case of.TypeError:
		_, err := of.ParseErrorMessage(m)
		return nil, nil, false, err
	case of.TypeHello:
		_, err := of.ParseHello(m)
		return nil, nil, false, err
	}
	return nil, nil, false, nil
}

func recodeReply(m of.Message) (any, []of.Message, bool, error) {
	r, err := of.ParseMultipartReply(m)
	if err != nil {
		return nil, nil, false, err
	}
	switch r.Kind {
	case of.MultipartDesc:
		v, err := of.ParseDesc(r.Body)
		if err != nil {
			return nil, nil, false, err
		}
		return v, of.EncodeMultipartReply(m.Xid(), r.Kind, of.EncodeDesc(v)), true, nil
	case of.MultipartPortDesc:
		v, err := of.ParsePorts(r.Body)
		if err != nil {
			return nil, nil, false, err
		}
		var entries [][]byte
		for _, p := range v {
			entries = append(entries, of.EncodePort(p))
		}
		return v, of.EncodeMultipartReply(m.Xid(), r.Kind, entries...), true, nil
	case of.MultipartFlow:
		v, err := of.ParseFlowEntries(r.Body)
		if err != nil {
			return nil, nil, false, err
		}
		var entries [][]byte
		for _, e := range v {
			_ = e.Dump().String()
			if e.Match.Check() != nil {
				return nil, nil, false, nil // fields outside the model are not encoded
			}
			b, err := of.EncodeFlowEntry(e)
			if err != nil {
				return nil, nil, false, nil //nolint:nilerr // an entry that grew past a message
			}
			entries = append(entries, b)
		}
		return v, of.EncodeMultipartReply(m.Xid(), r.Kind, entries...), true, nil
	}
	return nil, nil, false, nil
}

// checkStable decodes m, encodes it, and decodes that: nothing may change.
func checkStable(t *testing.T, m of.Message) {
	t.Helper()
	first, again, ok, err := recode(m)
	if err != nil {
		var pe *of.ParseError
		if !errors.As(err, &pe) {
			t.Fatalf("%v: error %v (%T) is not a *ParseError", m.Type(), err, err)
		}
		return
	}
	if !ok {
		return
	}
	_ = fmt.Sprint(first)
	for _, a := range again {
		if _, err := of.AsMessage(a); err != nil {
			t.Fatalf("encoded anew: %v", err)
		}
	}
	if len(again) != 1 {
		return // split otherwise than it came
	}
	second, twice, ok, err := recode(again[0])
	if err != nil || !ok {
		t.Fatalf("%v: encoded anew it does not decode: %v\n%x\n%x", m.Type(), err, m, again[0])
	}
	if diff := cmp.Diff(first, second, cmp.Comparer(equalMatches)); diff != "" {
		t.Fatalf("%v: decode, encode, decode differs:\n%s", m.Type(), diff)
	}
	if !bytes.Equal(again[0], twice[0]) {
		t.Fatalf("%v: encoding is not stable:\n%x\n%x", m.Type(), again[0], twice[0])
	}
}

// equalMatches compares what matches mean: order, empty masks and full masks
// say nothing.
func equalMatches(a, b of.Match) bool {
	x, errX := of.EncodeMatch(a)
	y, errY := of.EncodeMatch(b)
	return errX == nil && errY == nil && bytes.Equal(x, y)
}

func TestEncodedMessagesDecodeToThemselves(t *testing.T) {
	for _, s := range samples(t) {
		checkStable(t, s.msg)
		_, again, ok, err := recode(s.msg)
		if err != nil {
			t.Errorf("%s: %v", s.name, err)
		}
		if ok && len(again) == 1 && !bytes.Equal(again[0], s.msg) {
			t.Errorf("%s: encodes to\n%x, was\n%x", s.name, again[0], s.msg)
		}
	}
}

// FuzzDecode gives every decoder any octets as a message of any type.
func FuzzDecode(f *testing.F) {
	for _, s := range samples(f) {
		f.Add([]byte(s.msg))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		if len(b) < of.HeaderLen || len(b) > of.MaxMessageLen {
			return
		}
		b[0], b[2], b[3] = of.Version, byte(len(b)>>8), byte(len(b))
		m, err := of.AsMessage(b)
		if err != nil {
			t.Fatal(err)
		}
		checkStable(t, m)
	})
}

// FuzzActions is FuzzDecode for action lists alone, where the nesting is.
func FuzzActions(f *testing.F) {
	for _, a := range actionSamples() {
		f.Add(must(of.EncodeActions(a)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		first, err := of.ParseActions(b)
		if err != nil {
			return
		}
		again, err := of.EncodeActions(first)
		if err != nil {
			t.Fatalf("%s does not encode: %v", of.FormatActions(first), err)
		}
		second, err := of.ParseActions(again)
		if err != nil {
			t.Fatal(err)
		}
		if diff := cmp.Diff(first, second); diff != "" {
			t.Fatal(diff)
		}
	})
}

// FuzzMatch is FuzzDecode for matches.
func FuzzMatch(f *testing.F) {
	for _, m := range matchSamples() {
		f.Add(must(of.EncodeMatch(m)))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := of.ParseMatch(b)
		if err != nil {
			return
		}
		_ = m.String()
		again, err := of.EncodeMatch(m)
		if err != nil {
			t.Fatalf("%v does not encode: %v", m, err)
		}
		second, err := of.ParseMatch(again)
		if err != nil {
			t.Fatal(err)
		}
		if !equalMatches(m, second) {
			t.Fatalf("%v became %v", m, second)
		}
	})
}

// FuzzReader cuts any stream: what comes out is well framed and is what went
// in, and the only errors are those that are documented.
func FuzzReader(f *testing.F) {
	var all []byte
	for _, s := range samples(f) {
		all = append(all, s.msg...)
	}
	f.Add(all, 100)
	f.Add([]byte{4, 0, 0, 7, 0, 0, 0, 1}, 0)
	f.Add([]byte{4, 0, 0xff, 0xff, 0, 0, 0, 1}, 1024)
	f.Add([]byte{4, 0}, 0)
	f.Fuzz(func(t *testing.T, stream []byte, max int) {
		r := of.NewReader(bytes.NewReader(stream), max)
		var got []byte
		for {
			m, err := r.Next()
			if err != nil {
				var frame *of.FrameError
				switch {
				case errors.As(err, &frame):
					if reply := frame.Reply(); reply.Type() != of.TypeError {
						t.Fatalf("reply %x", reply)
					}
				case err == io.EOF:
					if !bytes.Equal(got, stream) {
						t.Fatalf("%d of %d octets came out", len(got), len(stream))
					}
				case !errors.Is(err, io.ErrUnexpectedEOF):
					t.Fatal(err)
				}
				return
			}
			if _, err := of.AsMessage(m); err != nil {
				t.Fatal(err)
			}
			if got = append(got, m...); !bytes.HasPrefix(stream, got) {
				t.Fatal("octets changed on the way")
			}
		}
	})
}
