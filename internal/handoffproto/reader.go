package handoffproto

import (
	"encoding/binary"
	"net/netip"
	"unicode/utf8"
)

// reader takes a frame's body apart; bad once it was not what it should be.
type reader struct {
	b   []byte
	bad bool
}

// frame reads the body of a frame; nil: no kind of frame is meant.
func (r *reader) frame(k kind) Frame {
	switch k {
	case kindHello:
		return Hello{PID: r.uint32(), Name: r.text()}
	case kindSession:
		return r.origin()
	case kindRefusal:
		return Refusal{Reason: r.text()}
	case kindWilling:
		return Willing{}
	case kindPerRequest:
		return PerRequest{Service: r.text(), On: r.bool()}
	case kindQuestion:
		return Question{Number: r.uint32(), Session: r.origin(), Head: string(r.take(int(r.uint16())))}
	case kindAnswer:
		return Answer{Number: r.uint32(), Node: r.text()}
	case kindGive:
		return Give{Session: r.origin(), Node: r.text()}
	case kindIdleSession:
		s := r.origin()
		s.Idle = true
		return s
	case kindVacate:
		return Vacate{Service: r.text(), On: r.bool()}
	case kindHeed:
		return Heed{}
	case kindAnswers:
		return Answers{Errors: r.uint32(), InARow: r.uint32(), Others: r.bool()}
	}
	return nil
}

func (r *reader) origin() Session {
	s := Session{ID: r.text(), Service: r.text(), Client: r.endpoint(), Local: r.endpoint(), VIP: r.endpoint()}
	r.bad = r.bad || !s.Client.IsValid() || !s.Local.IsValid()
	return s
}

func (r *reader) bool() bool {
	v := r.uint8()
	r.bad = r.bad || v > 1
	return v == 1
}

func (r *reader) take(n int) []byte {
	if r.bad || len(r.b) < n {
		r.bad = true
		return nil
	}
	v := r.b[:n]
	r.b = r.b[n:]
	return v
}

func (r *reader) uint8() uint8 {
	if v := r.take(1); v != nil {
		return v[0]
	}
	return 0
}

func (r *reader) uint16() uint16 {
	if v := r.take(2); v != nil {
		return binary.BigEndian.Uint16(v)
	}
	return 0
}

func (r *reader) uint32() uint32 {
	if v := r.take(4); v != nil {
		return binary.BigEndian.Uint32(v)
	}
	return 0
}

func (r *reader) text() string {
	s := string(r.take(int(r.uint8())))
	r.bad = r.bad || !utf8.ValidString(s)
	return s
}

func (r *reader) endpoint() netip.AddrPort {
	var a netip.Addr
	switch r.uint8() {
	case 0:
		return netip.AddrPort{}
	case 4:
		if v := r.take(4); v != nil {
			a = netip.AddrFrom4([4]byte(v))
		}
	case 6:
		if v := r.take(16); v != nil {
			a = netip.AddrFrom16([16]byte(v))
		}
	}
	r.bad = r.bad || !a.IsValid()
	return netip.AddrPortFrom(a, r.uint16())
}
