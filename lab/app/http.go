package app

import (
	"bufio"
	"crypto/sha1"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"strconv"
	"strings"
	"time"
)

// maxPieces bounds what number asks for.
const maxPieces = 100_000

// number returns the integer parameter n, 3 if there is none, or answers 400.
func number(w http.ResponseWriter, r *http.Request) (n int, ok bool) {
	text := r.URL.Query().Get("n")
	if text == "" {
		return 3, true
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > maxPieces {
		http.Error(w, fmt.Sprintf("n is a number, 0 to %d", maxPieces), http.StatusBadRequest)
		return 0, false
	}
	return n, true
}

// chunked answers in n pieces, each written at once.
func chunked(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r)
	if !ok {
		return
	}
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	for i := range n {
		fmt.Fprintf(w, "piece %d\n", i)
		_ = http.NewResponseController(w).Flush() // a client that is gone needs no answer
	}
}

// trailers answers with trailers: what came as trailers, and the body's length.
func trailers(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	w.Header().Set("Trailer", "X-Length, X-Trailers")
	n, err := io.Copy(w, r.Body)
	if err != nil {
		return
	}
	var got []string
	for name, values := range r.Trailer {
		got = append(got, name+"="+strings.Join(values, ","))
	}
	slices.Sort(got)
	w.Header().Set("X-Length", strconv.FormatInt(n, 10))
	w.Header().Set("X-Trailers", strings.Join(got, ";"))
}

// events sends n server-sent events, or goes on for as long as the client
// listens if n is 0, one each ms milliseconds.
func events(w http.ResponseWriter, r *http.Request) {
	n, ok := number(w, r)
	if !ok {
		return
	}
	ms, err := strconv.Atoi(r.URL.Query().Get("ms"))
	if err != nil || ms < 1 {
		ms = 1
	}
	w.Header().Set("Content-Type", "text/event-stream")
	tick := time.NewTicker(time.Duration(ms) * time.Millisecond)
	defer tick.Stop()
	for i := 0; n == 0 || i < n; i++ {
		if _, err := fmt.Fprintf(w, "id: %d\ndata: event %d\n\n", i, i); err != nil {
			return
		}
		_ = http.NewResponseController(w).Flush()
		select {
		case <-tick.C:
		case <-r.Context().Done():
			return
		}
	}
}

// early answers before it has read the body.
func early(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).EnableFullDuplex() // HTTP/2 is always so
	text(w, "before the body\n")
	_ = http.NewResponseController(w).Flush()
	n, err := io.Copy(io.Discard, r.Body)
	fmt.Fprintf(w, "then %d octets, %v\n", n, err)
}

// rejects answers without reading the body: net/http closes the connection if
// there is much of it.
func rejects(w http.ResponseWriter, r *http.Request) {
	http.Error(w, "not wanted", http.StatusRequestEntityTooLarge)
}

// status answers with a status, without a body where there can be none.
func status(w http.ResponseWriter, r *http.Request) {
	code, err := strconv.Atoi(r.PathValue("code"))
	if err != nil || code < 200 || code > 599 {
		http.Error(w, "/status/CODE: 200 to 599", http.StatusBadRequest)
		return
	}
	w.WriteHeader(code)
	if code != http.StatusNoContent && code != http.StatusNotModified {
		fmt.Fprintf(w, "status %d\n", code)
	}
}

// hints sends interim responses first.
func hints(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Link", "</style.css>; rel=preload")
	w.WriteHeader(http.StatusEarlyHints)
	w.WriteHeader(http.StatusProcessing)
	text(w, "after two interim responses\n")
}

// raw takes the connection over and writes an answer as it is.
func raw(answer string) http.HandlerFunc {
	return func(w http.ResponseWriter, r *http.Request) {
		_, _ = io.Copy(io.Discard, r.Body)
		c, buf, err := http.NewResponseController(w).Hijack()
		if err != nil {
			http.Error(w, err.Error(), http.StatusInternalServerError)
			return
		}
		defer c.Close()
		_, _ = io.WriteString(c, answer)
		_ = buf.Flush()
	}
}

// socket speaks WebSocket (RFC 6455) and sends every message back. It is as
// much of the protocol as tests need: messages of one frame, ping and close.
func socket(w http.ResponseWriter, r *http.Request) {
	key := r.Header.Get("Sec-WebSocket-Key")
	if key == "" || !strings.EqualFold(r.Header.Get("Upgrade"), "websocket") {
		w.Header().Set("Upgrade", "websocket")
		http.Error(w, "WebSocket is spoken here", http.StatusUpgradeRequired)
		return
	}
	c, buf, err := http.NewResponseController(w).Hijack()
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	defer c.Close()
	sum := sha1.Sum([]byte(key + "258EAFA5-E914-47DA-95CA-C5AB0DC85B11"))
	fmt.Fprintf(c, "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Accept: %s\r\n\r\n",
		base64.StdEncoding.EncodeToString(sum[:]))
	for echoFrame(c, buf.Reader) == nil {
	}
}

// Operations of WebSocket frames.
const (
	opText  = 1
	opClose = 8
	opPing  = 9
	opPong  = 10

	maxFrame = 16 << 20
)

var errWebSocket = errors.New("the WebSocket ended")

func echoFrame(c net.Conn, in *bufio.Reader) error {
	op, payload, err := readFrame(in)
	if err != nil {
		return err
	}
	switch op {
	case opPing:
		op = opPong
	case opPong:
		return nil
	}
	if _, err := c.Write(append(frameHead(op, len(payload)), payload...)); err != nil {
		return err
	}
	if op == opClose {
		return errWebSocket
	}
	return nil
}

// readFrame reads a frame of a client, which is masked.
func readFrame(in *bufio.Reader) (op byte, payload []byte, err error) {
	var b [8]byte
	if _, err := io.ReadFull(in, b[:2]); err != nil {
		return 0, nil, err
	}
	op = b[0] & 0x0f
	n := uint64(b[1] & 0x7f)
	if b[0]&0x80 == 0 || b[1]&0x80 == 0 {
		return 0, nil, errWebSocket
	}
	switch n {
	case 126:
		_, err = io.ReadFull(in, b[:2])
		n = uint64(binary.BigEndian.Uint16(b[:]))
	case 127:
		_, err = io.ReadFull(in, b[:8])
		n = binary.BigEndian.Uint64(b[:])
	}
	if err != nil || n > maxFrame {
		return 0, nil, errors.Join(errWebSocket, err)
	}
	var mask [4]byte
	if _, err := io.ReadFull(in, mask[:]); err != nil {
		return 0, nil, err
	}
	payload = make([]byte, n)
	if _, err := io.ReadFull(in, payload); err != nil {
		return 0, nil, err
	}
	for i := range payload {
		payload[i] ^= mask[i&3]
	}
	return op, payload, nil
}

// frameHead begins a frame of a server.
func frameHead(op byte, n int) []byte {
	b := []byte{0x80 | op}
	switch {
	case n < 126:
		return append(b, byte(n))
	case n < 1<<16:
		return binary.BigEndian.AppendUint16(append(b, 126), uint16(n))
	}
	return binary.BigEndian.AppendUint64(append(b, 127), uint64(n))
}
