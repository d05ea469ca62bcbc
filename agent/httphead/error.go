package httphead

import (
	"fmt"
	"net/http"
	"strconv"
)

// Error says why a request was refused and with which status to answer.
type Error struct {
	// Status is 400, 414, 431, 501 or 505.
	Status int
	// Reason is one line of plain ASCII, meant for the client.
	Reason string
}

func (e *Error) Error() string {
	return fmt.Sprintf("refuse the request with %d %s: %s", e.Status, http.StatusText(e.Status), e.Reason)
}

// Response is the answer to send to the client before its connection is closed.
func (e *Error) Response() []byte { return Response(e.Status, e.Reason) }

// Response makes a complete HTTP/1.1 response with the reason as its body, one
// line of plain text, that announces the connection's end. A status outside
// 400 to 599 becomes 500; control characters in the reason become spaces.
func Response(status int, reason string) []byte {
	if status < 400 || status > 599 {
		status = http.StatusInternalServerError
	}
	text := http.StatusText(status)
	if text == "" {
		text = "Error"
	}
	b := make([]byte, 0, 192+len(text)+len(reason))
	b = append(b, "HTTP/1.1 "...)
	b = strconv.AppendInt(b, int64(status), 10)
	b = append(b, ' ')
	b = append(b, text...)
	// Some of these statuses (414, 501) may be cached unless told otherwise:
	// RFC 9110, section 15.1.
	b = append(b, "\r\nContent-Type: text/plain; charset=utf-8\r\nCache-Control: no-store\r\nConnection: close\r\nContent-Length: "...)
	b = strconv.AppendInt(b, int64(len(reason)+1), 10)
	b = append(b, "\r\n\r\n"...)
	for i := range len(reason) {
		c := reason[i]
		if c < ' ' || c == 0x7f {
			c = ' '
		}
		b = append(b, c)
	}
	return append(b, '\n')
}

func refuse(status int, reason string) *Error { return &Error{Status: status, Reason: reason} }

func bad(reason string) *Error { return refuse(http.StatusBadRequest, reason) }
