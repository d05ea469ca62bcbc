package conformance

import (
	"encoding/binary"
	"net"
	"time"

	"github.com/shunt-sdn/shunt/controller/openflow"
)

// raw is a control connection for messages that no encoder makes.
type raw struct {
	e   *env
	nc  net.Conn
	in  *openflow.Reader
	xid uint32
}

// raw makes a connection and says hello on it.
func (e *env) raw() *raw {
	e.Helper()
	r := e.silent()
	r.write(openflow.EncodeHello(1))
	if m := r.read(); m.Type() != openflow.TypeHello {
		e.Fatalf("the switch begins with %v", m.Type())
	}
	return r
}

// silent makes a connection that has said nothing yet.
func (e *env) silent() *raw {
	e.Helper()
	nc, err := e.target.Dial(e.ctx())
	if err != nil {
		e.Fatal(err)
	}
	e.Cleanup(func() { nc.Close() })
	e.must(nc.SetDeadline(time.Now().Add(patience)))
	return &raw{e: e, nc: nc, in: openflow.NewReader(nc, 0), xid: 0x1000}
}

func (r *raw) write(b []byte) {
	r.e.Helper()
	if _, err := r.nc.Write(b); err != nil {
		r.e.Fatal(err)
	}
}

func (r *raw) read() openflow.Message {
	r.e.Helper()
	m, err := r.in.Next()
	if err != nil {
		r.e.Fatal(err)
	}
	return append(openflow.Message(nil), m...)
}

// exchange sends a message and a barrier, and returns what the switch answers
// before the barrier's reply, its own echo requests apart.
func (r *raw) exchange(msg []byte) (replies []openflow.Message) {
	r.e.Helper()
	r.xid += 2
	if len(msg) >= openflow.HeaderLen {
		openflow.Message(msg).SetXid(r.xid)
	}
	r.write(append(append([]byte(nil), msg...), openflow.EncodeBarrierRequest(r.xid+1)...))
	for {
		m := r.read()
		switch {
		case m.Type() == openflow.TypeEchoRequest:
			r.write(openflow.EncodeEchoReply(m))
		case m.Type() == openflow.TypeBarrierReply && m.Xid() == r.xid+1:
			return replies
		default:
			replies = append(replies, m)
		}
	}
}

// wantError fails unless the answer to the message is one of the errors, with its
// xid and its beginning.
func (r *raw) wantError(msg []byte, want ...openflow.Code) {
	r.e.Helper()
	replies := r.exchange(msg)
	if len(replies) != 1 || replies[0].Type() != openflow.TypeError {
		r.e.Errorf("%d answers %v, want one error %v", len(replies), replies, want)
		return
	}
	err, perr := openflow.ParseErrorMessage(replies[0])
	if perr != nil {
		r.e.Errorf("the error message: %v", perr)
		return
	}
	ok := false
	for _, c := range want {
		ok = ok || c == openflow.MakeCode(err.Type, err.Code)
	}
	if !ok {
		r.e.Errorf("error %s (%d/%d), want %v", err.Name, err.Type, err.Code, want)
	}
	if err.Xid != r.xid {
		r.e.Errorf("error with xid %#x, want %#x", err.Xid, r.xid)
	}
	if n := min(len(msg), 64); len(err.Data) < n || string(err.Data[:n]) != string(msg[:n]) {
		r.e.Errorf("error carries % x, want the request's first %d octets % x", err.Data, n, msg[:n])
	}
}

// message makes a message of a type with a body.
func message(typ uint8, body ...byte) []byte {
	b := append([]byte{openflow.Version, typ, 0, 0, 0, 0, 0, 0}, body...)
	binary.BigEndian.PutUint16(b[2:], uint16(len(b)))
	return b
}

// flowMod makes a flow mod of a match and instructions that may be wrong.
func flowMod(table, command uint8, oxm, instructions []byte) []byte {
	body := make([]byte, 40)
	body[16], body[17] = table, command
	binary.BigEndian.PutUint16(body[22:], 100)        // priority
	binary.BigEndian.PutUint32(body[24:], 0xffffffff) // no buffer
	binary.BigEndian.PutUint32(body[28:], 0xffffffff) // any port
	binary.BigEndian.PutUint32(body[32:], 0xffffffff) // any group
	body = append(body, 0, 1, 0, byte(4+len(oxm)))
	body = append(body, oxm...)
	body = append(body, make([]byte, (8-(4+len(oxm))%8)%8)...)
	return message(14, append(body, instructions...)...)
}

// instruction makes an instruction.
func instruction(typ uint16, body ...byte) []byte {
	b := binary.BigEndian.AppendUint16(nil, typ)
	b = binary.BigEndian.AppendUint16(b, uint16(4+len(body)))
	return append(b, body...)
}

// apply makes an apply-actions instruction.
func apply(actions ...[]byte) []byte {
	body := make([]byte, 4)
	for _, a := range actions {
		body = append(body, a...)
	}
	return instruction(4, body...)
}

// oxm makes a match field of the basic class.
func oxm(field uint8, value ...byte) []byte {
	return append([]byte{0x80, 0, field << 1, byte(len(value))}, value...)
}
