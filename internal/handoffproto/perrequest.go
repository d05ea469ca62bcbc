package handoffproto

import (
	"encoding/binary"
	"fmt"
)

// Willing is what an application says that asks about requests.
type Willing struct{}

// PerRequest says whether requests of a service may be answered elsewhere.
type PerRequest struct {
	Service string
	On      bool
}

// Question asks where a request shall be answered.
type Question struct {
	Number  uint32 // of the question, repeated in the answer
	Session Session
	Head    string // the request's head as it stands in the queue, at most MaxHead octets
}

// Answer answers the question of the number.
type Answer struct {
	Number uint32
	Node   string // empty: the application shall serve the request
}

// Vacate says whether connections of a service shall leave when they are idle.
// Those that are when it comes leave, whatever was said before.
type Vacate struct {
	Service string
	On      bool
}

// Give describes the connection whose descriptor comes along, for the node; ""
// if it is idle and shall leave.
type Give struct {
	Session Session
	Node    string
}

// Append implements Frame.
func (Willing) Append(b []byte) ([]byte, error) { return header(b, kindWilling), nil }

// Append implements Frame.
func (p PerRequest) Append(b []byte) ([]byte, error) {
	return appendSwitch(header(b, kindPerRequest), p.Service, p.On)
}

// Append implements Frame.
func (v Vacate) Append(b []byte) ([]byte, error) {
	return appendSwitch(header(b, kindVacate), v.Service, v.On)
}

func appendSwitch(b []byte, service string, on bool) ([]byte, error) {
	b, err := appendText(b, service)
	if err != nil {
		return nil, err
	}
	if on {
		return append(b, 1), nil
	}
	return append(b, 0), nil
}

// Append implements Frame.
func (q Question) Append(b []byte) ([]byte, error) {
	if len(q.Head) > MaxHead {
		return nil, fmt.Errorf("encode a hand-off frame: a head of %d octets, at most %d fit", len(q.Head), MaxHead)
	}
	b, err := q.Session.origin(binary.BigEndian.AppendUint32(header(b, kindQuestion), q.Number))
	if err != nil {
		return nil, err
	}
	return append(binary.BigEndian.AppendUint16(b, uint16(len(q.Head))), q.Head...), nil
}

// Append implements Frame.
func (a Answer) Append(b []byte) ([]byte, error) {
	return appendText(binary.BigEndian.AppendUint32(header(b, kindAnswer), a.Number), a.Node)
}

// Append implements Frame.
func (g Give) Append(b []byte) ([]byte, error) {
	b, err := g.Session.origin(header(b, kindGive))
	if err != nil {
		return nil, err
	}
	return appendText(b, g.Node)
}
