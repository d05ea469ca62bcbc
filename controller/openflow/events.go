package openflow

import (
	"errors"
	"slices"
	"sync"
)

// An Event is what a switch says unasked: PacketIn, PortStatus, FlowRemoved, or
// a *SwitchError.
type Event interface{ event() }

func (PacketIn) event()     {}
func (PortStatus) event()   {}
func (FlowRemoved) event()  {}
func (*SwitchError) event() {}

// maxEvents bounds the events that wait for a slow consumer.
const maxEvents = 1024

var errEventsFull = errors.New("events are not consumed: 1024 port changes and removed flows wait; the channel starts over")

// eventQueue stands between the reader, which must never wait, and a consumer
// of any speed. When it is full packet-ins go first, then errors; of ports only
// the last state is kept.
type eventQueue struct {
	out chan Event

	mu      sync.Mutex
	waiting []Event
	dropped uint64
	ready   chan struct{} // capacity 1: something waits
}

func newEventQueue() *eventQueue {
	return &eventQueue{out: make(chan Event), ready: make(chan struct{}, 1)}
}

// put never blocks. Its error says that nothing is left to drop.
func (q *eventQueue) put(e Event) error {
	q.mu.Lock()
	defer q.mu.Unlock()
	if len(q.waiting) >= maxEvents {
		if _, ok := e.(PacketIn); ok {
			q.dropped++
			return nil
		}
		if !q.makeRoom(e) {
			return errEventsFull
		}
	}
	q.waiting = append(q.waiting, e)
	select {
	case q.ready <- struct{}{}:
	default:
	}
	return nil
}

// makeRoom drops one event that matters less than e. It needs mu.
func (q *eventQueue) makeRoom(e Event) bool {
	drop := func(match func(Event) bool) bool {
		i := slices.IndexFunc(q.waiting, match)
		if i < 0 {
			return false
		}
		if _, ok := q.waiting[i].(PacketIn); ok {
			q.dropped++
		}
		q.waiting = slices.Delete(q.waiting, i, i+1)
		return true
	}
	isPacketIn := func(x Event) bool { _, ok := x.(PacketIn); return ok }
	isError := func(x Event) bool { _, ok := x.(*SwitchError); return ok }
	samePort := func(x Event) bool {
		old, ok := x.(PortStatus)
		s, isPort := e.(PortStatus)
		return ok && isPort && old.Port.No == s.Port.No
	}
	return drop(isPacketIn) || drop(isError) || drop(samePort)
}

func (q *eventQueue) droppedPacketIns() uint64 {
	q.mu.Lock()
	defer q.mu.Unlock()
	return q.dropped
}

// pump moves events to out until the channel is closed.
func (q *eventQueue) pump(closed <-chan struct{}) {
	for {
		select {
		case <-closed:
			return
		case <-q.ready:
		}
		for {
			q.mu.Lock()
			if len(q.waiting) == 0 {
				q.waiting = nil
				q.mu.Unlock()
				break
			}
			e := q.waiting[0]
			q.waiting = q.waiting[1:]
			q.mu.Unlock()
			select {
			case <-closed:
				return
			case q.out <- e:
			}
		}
	}
}
