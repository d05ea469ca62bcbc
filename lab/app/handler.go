package app

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"time"
)

// NodeHeader names the node in every answer.
const NodeHeader = "X-Node"

// MaxBytes is the longest document: 1 TB.
const MaxBytes = 1e12

// maxSlow bounds /slow.
const maxSlow = 10 * time.Minute

// Handler answers as the named node:
//
//	/bytes/N     the document of N octets (see Content); ranges, too
//	/whoami      the node's name and a newline
//	/echo        {"length":…,"sha256":"…"} of the request's body
//	/slow?ms=N   the node's name after N milliseconds
//	/headers     the request as the server sees it, as JSON
//
// and as HTTP can be spoken, for tests:
//
//	/chunked?n=N     N chunks
//	/trailers        the request's body back, with trailers
//	/sse?n=N&ms=M    N server-sent events, one each M milliseconds; 0: without end
//	/early           an answer that begins before the body is read
//	/reject          an answer that does not read the body
//	/status/CODE     that status
//	/hints           two interim responses first
//	/close           a response that ends with the connection
//	/cut             a response that ends before its length
//	/old             a response of HTTP/1.0
//	/ws              a WebSocket that sends messages back
func Handler(node string) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/bytes/{n}", bytesHandler)
	mux.HandleFunc("/whoami", func(w http.ResponseWriter, r *http.Request) { text(w, node+"\n") })
	mux.HandleFunc("/echo", echo)
	mux.HandleFunc("/slow", func(w http.ResponseWriter, r *http.Request) { slow(w, r, node) })
	mux.HandleFunc("/chunked", chunked)
	mux.HandleFunc("/trailers", trailers)
	mux.HandleFunc("/sse", events)
	mux.HandleFunc("/early", early)
	mux.HandleFunc("/reject", rejects)
	mux.HandleFunc("/status/{code}", status)
	mux.HandleFunc("/hints", hints)
	mux.HandleFunc("/close", raw("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n\r\nuntil the connection ends\n"))
	mux.HandleFunc("/cut", raw("HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\nnot all of it\n"))
	mux.HandleFunc("/old", raw("HTTP/1.0 200 OK\r\nContent-Length: 4\r\n\r\nold\n"))
	mux.HandleFunc("/ws", socket)
	mux.HandleFunc("/headers", func(w http.ResponseWriter, r *http.Request) { headers(w, r, node) })
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		w.Header().Set(NodeHeader, node)
		mux.ServeHTTP(w, r)
	})
}

func bytesHandler(w http.ResponseWriter, r *http.Request) {
	n, err := strconv.ParseInt(r.PathValue("n"), 10, 64)
	if err != nil || n < 0 || n > MaxBytes {
		http.Error(w, fmt.Sprintf("/bytes/N: N is a number of octets, 0 to %d", int64(MaxBytes)), http.StatusBadRequest)
		return
	}
	w.Header().Set("Content-Type", "application/octet-stream")
	w.Header().Set("ETag", `"`+strconv.FormatInt(n, 10)+`"`)
	http.ServeContent(w, r, "", time.Time{}, NewContent(n))
}

func echo(w http.ResponseWriter, r *http.Request) {
	sum := sha256.New()
	n, err := io.Copy(sum, r.Body)
	if err != nil {
		http.Error(w, fmt.Sprintf("read the body: %v after %d octets", err, n), http.StatusBadRequest)
		return
	}
	reply(w, Echo{Length: n, SHA256: hex.EncodeToString(sum.Sum(nil))})
}

// Echo is what /echo answers.
type Echo struct {
	Length int64  `json:"length"` // octets of the body
	SHA256 string `json:"sha256"` // hexadecimal
}

func slow(w http.ResponseWriter, r *http.Request, node string) {
	ms, err := strconv.ParseInt(r.FormValue("ms"), 10, 32)
	if err != nil || ms < 0 || ms > maxSlow.Milliseconds() {
		http.Error(w, fmt.Sprintf("/slow?ms=N: N is a number of milliseconds, 0 to %d", maxSlow.Milliseconds()), http.StatusBadRequest)
		return
	}
	t := time.NewTimer(time.Duration(ms) * time.Millisecond)
	defer t.Stop()
	select {
	case <-t.C:
		text(w, node+"\n")
	case <-r.Context().Done(): // the client is gone
	}
}

// Request is what /headers answers.
type Request struct {
	Node    string      `json:"node"`
	Client  string      `json:"client"` // address and port
	Local   string      `json:"local"`  // the connection's own end
	Method  string      `json:"method"`
	Target  string      `json:"target"`
	Proto   string      `json:"proto"`
	Host    string      `json:"host"`
	Headers http.Header `json:"headers"`
}

func headers(w http.ResponseWriter, r *http.Request, node string) {
	req := Request{Node: node, Client: r.RemoteAddr, Method: r.Method, Target: r.RequestURI, Proto: r.Proto, Host: r.Host, Headers: r.Header}
	if local, ok := r.Context().Value(http.LocalAddrContextKey).(fmt.Stringer); ok {
		req.Local = local.String()
	}
	reply(w, req)
}

func text(w http.ResponseWriter, s string) {
	w.Header().Set("Content-Type", "text/plain; charset=utf-8")
	_, _ = io.WriteString(w, s) // a client that is gone needs no answer
}

func reply(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	_ = json.NewEncoder(w).Encode(v) // a client that is gone needs no answer
}
