package openflow

import (
	"encoding/binary"
	"iter"
	"strings"
	"sync/atomic"
)

// Counts are the messages of all channels that share it, after their handshakes.
// The zero value is ready. Its methods may be called concurrently.
type Counts struct {
	sent, received [len(typeNames) + 1]atomic.Uint64 // the last: types unknown here
	errors         [len(errorClasses)]atomic.Uint64
}

// errorClasses are the types of errors, OpenFlow 1.3.5, 7.5.4; the last is for
// experimenters' and all others.
var errorClasses = [...]string{
	"hello_failed", "bad_request", "bad_action", "bad_instruction", "bad_match", "flow_mod_failed", "group_mod_failed",
	"port_mod_failed", "table_mod_failed", "queue_op_failed", "switch_config_failed", "role_request_failed",
	"meter_mod_failed", "table_features_failed", "experimenter",
}

// Sent yields the number of messages sent by type, as flow_mod; types that never
// came up are left out.
func (c *Counts) Sent() iter.Seq2[string, uint64] { return byType(&c.sent) }

// Received yields the number of messages received by type.
func (c *Counts) Received() iter.Seq2[string, uint64] { return byType(&c.received) }

func byType(counts *[len(typeNames) + 1]atomic.Uint64) iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i := range counts {
			name := "unknown"
			if i < len(typeNames) {
				name = strings.ToLower(typeNames[i])
			}
			if n := counts[i].Load(); n > 0 && !yield(name, n) {
				return
			}
		}
	}
}

// Errors yields the number of errors that switches sent by their type, as
// flow_mod_failed, all types.
func (c *Counts) Errors() iter.Seq2[string, uint64] {
	return func(yield func(string, uint64) bool) {
		for i, name := range errorClasses {
			if !yield(name, c.errors[i].Load()) {
				return
			}
		}
	}
}

// read counts a message that came. A nil Counts counts nothing.
func (c *Counts) read(m Message) {
	if c == nil {
		return
	}
	c.received[min(int(m.Type()), len(typeNames))].Add(1)
	if m.Type() == TypeError && len(m) >= HeaderLen+2 {
		c.errors[min(int(binary.BigEndian.Uint16(m.Body())), len(errorClasses)-1)].Add(1)
	}
}

// wrote counts the messages in b, which are whole.
func (c *Counts) wrote(b []byte) {
	if c == nil {
		return
	}
	for len(b) >= HeaderLen {
		n := int(binary.BigEndian.Uint16(b[2:]))
		if n < HeaderLen || n > len(b) {
			return
		}
		c.sent[min(int(b[1]), len(typeNames))].Add(1)
		b = b[n:]
	}
}
