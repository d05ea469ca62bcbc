package httphead

import (
	"bufio"
	"bytes"
	"io"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

func TestFieldsAreFoundWhateverTheirCase(t *testing.T) {
	h, done, err := Parse([]byte(get("Host: a", "X-One: 1", "x-two:\t 2 \t", "X-ONE: other", "Empty:")), 0)
	if err != nil || !done {
		t.Fatalf("done %v, error %v", done, err)
	}
	for name, want := range map[string]string{
		"host": "a", "x-one": "1", "X-TWO": "2", "empty": "", "absent": "", "X-On": "",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("Get(%q) = %q, want %q", name, got, want)
		}
	}
	var got []string
	for n, v := range h.Fields() {
		got = append(got, n+"="+v)
	}
	want := []string{"Host=a", "X-One=1", "x-two=2", "X-ONE=other", "Empty="}
	if d := cmp.Diff(want, got); d != "" {
		t.Errorf("Fields (-want +got):\n%s", d)
	}
	for range h.Fields() {
		break
	}
	h, _, _ = Parse([]byte("GET / HTTP/1.0\r\n\r\n"), 0)
	for n := range h.Fields() {
		t.Errorf("a request without fields has %q", n)
	}
	if got := (&Head{}).Get("Host"); got != "" {
		t.Errorf("the zero Head has a Host %q", got)
	}
}

func TestTheHeadDoesNotKeepTheBuffer(t *testing.T) {
	b := []byte(get("Host: a", "X: y"))
	h, _, _ := Parse(b, 0)
	for i := range b {
		b[i] = '?'
	}
	if h.Host != "a" || h.Get("x") != "y" || h.Method != "GET" {
		t.Errorf("the head changed with the buffer: %+v", h)
	}
}

func TestResponsesAreCompleteAndCloseTheConnection(t *testing.T) {
	for _, c := range []struct {
		status     int
		reason     string
		wantStatus int
		wantBody   string
	}{
		{400, "no Host", 400, "no Host\n"},
		{408, "the request took too long", 408, "the request took too long\n"},
		{431, "", 431, "\n"},
		{503, "no server", 503, "no server\n"},
		{499, "odd but allowed", 499, "odd but allowed\n"},
		{200, "not an error", 500, "not an error\n"},
		{0, "x", 500, "x\n"},
		{400, "a\r\nb\x7f", 400, "a  b \n"},
	} {
		b := Response(c.status, c.reason)
		r, err := http.ReadResponse(bufio.NewReader(bytes.NewReader(b)), nil)
		if err != nil {
			t.Errorf("%d: %v in %q", c.status, err, b)
			continue
		}
		body, err := io.ReadAll(r.Body)
		if err != nil || string(body) != c.wantBody || r.StatusCode != c.wantStatus || !r.Close {
			t.Errorf("Response(%d, %q): status %d, body %q, close %v, error %v", c.status, c.reason, r.StatusCode, body, r.Close, err)
		}
		if n := int64(len(c.wantBody)); r.ContentLength != n {
			t.Errorf("Response(%d, %q): Content-Length %d, want %d", c.status, c.reason, r.ContentLength, n)
		}
	}
	e := &Error{Status: 414, Reason: "the request line is too long"}
	if !bytes.Equal(e.Response(), Response(414, e.Reason)) {
		t.Error("Error.Response differs from Response")
	}
	if want := "refuse the request with 414 Request URI Too Long: the request line is too long"; e.Error() != want {
		t.Errorf("Error() = %q, want %q", e.Error(), want)
	}
}

func browserRequest() []byte {
	return []byte("GET /packages/debian/pool/main/l/linux/linux-image.deb?mirror=3 HTTP/1.1\r\n" + strings.Join([]string{
		"Host: mirror.example.org", "Connection: keep-alive",
		"User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0.0.0 Safari/537.36",
		"Accept: text/html,application/xhtml+xml,application/xml;q=0.9,image/avif,image/webp,*/*;q=0.8",
		"Accept-Encoding: gzip, deflate", "Accept-Language: en-GB,en;q=0.9,de;q=0.8",
		"Cookie: session=0123456789abcdef0123456789abcdef; theme=dark", "", ""}, "\r\n"))
}

func BenchmarkParse(b *testing.B) {
	for _, c := range []struct {
		name  string
		input []byte
	}{
		{"curl", []byte("GET /bytes/100 HTTP/1.1\r\nHost: 10.10.0.80\r\nUser-Agent: curl/7.88.1\r\nAccept: */*\r\n\r\n")},
		{"browser", browserRequest()},
	} {
		b.Run(c.name, func(b *testing.B) {
			b.SetBytes(int64(len(c.input)))
			b.ReportAllocs()
			for b.Loop() {
				if _, done, err := Parse(c.input, 0); !done || err != nil {
					b.Fatal(done, err)
				}
			}
		})
	}
}

// The whole of a head of 16 KiB, whose octets arrive one by one.
func BenchmarkParseDripping(b *testing.B) {
	input := []byte(get("Host: a", "X: "+strings.Repeat("x", DefaultMax-40)))
	b.SetBytes(int64(len(input)))
	for b.Loop() {
		p := NewParser(0)
		for n := range input {
			if _, _, err := p.Parse(input[:n+1]); err != nil {
				b.Fatal(err)
			}
		}
	}
}

func BenchmarkGet(b *testing.B) {
	h, _, _ := Parse(browserRequest(), 0)
	b.ReportAllocs()
	for b.Loop() {
		if h.Get("cookie") == "" {
			b.Fatal("no cookie")
		}
	}
}
