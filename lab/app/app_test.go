package app

import (
	"bytes"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"testing"
	"testing/iotest"
	"time"
)

func document(t *testing.T, n int64) []byte {
	t.Helper()
	b, err := io.ReadAll(NewContent(n))
	if err != nil || int64(len(b)) != n {
		t.Fatalf("read a document of %d octets: %d octets, %v", n, len(b), err)
	}
	return b
}

func TestADocumentReadsTheSameInEveryWay(t *testing.T) {
	want := document(t, 3*block+17)
	if err := iotest.TestReader(NewContent(int64(len(want))), want); err != nil {
		t.Error(err)
	}
	var b bytes.Buffer
	if n, err := NewContent(int64(len(want))).WriteTo(&b); err != nil || n != int64(len(want)) || !bytes.Equal(b.Bytes(), want) {
		t.Errorf("WriteTo: %d octets, %v; the document's: %v", n, err, bytes.Equal(b.Bytes(), want))
	}
	if got := document(t, 100); !bytes.Equal(got, want[:100]) {
		t.Error("a shorter document is not a prefix of a longer one")
	}
}

func TestADocumentNeverChangesFromReleaseToRelease(t *testing.T) {
	sum := sha256.Sum256(document(t, 1_000_000))
	if got, want := hex.EncodeToString(sum[:]), "28b20b164e110b8701968bb79aaabaa44e4f05ba6b697b9630e57529b986fcf2"; got != want {
		t.Errorf("SHA-256 of the first million octets is %s, want %s", got, want)
	}
}

func TestNoTwoBlocksAreAlike(t *testing.T) {
	seen := map[int64]bool{}
	for i := range int64(phases) {
		seen[i*multiplier&(phases-1)] = true
	}
	if len(seen) != phases {
		t.Errorf("%d blocks begin at %d places", phases, len(seen))
	}
}

func TestVerifyFindsTheFirstWrongOctet(t *testing.T) {
	good := document(t, 2*block)
	cut := func(from, to int) []byte { return append(bytes.Clone(good[:from]), good[to:]...) }
	flip := bytes.Clone(good)
	flip[block+5] ^= 1
	for name, test := range map[string]struct {
		stream []byte
		want   *Mismatch
	}{
		"nothing wrong":  {good, nil},
		"a wrong octet":  {flip, &Mismatch{Offset: block + 5}},
		"a lost block":   {cut(0, block), &Mismatch{Offset: 0}},
		"the end lost":   {good[:block+1], &Mismatch{Offset: block + 1, Short: true}},
		"more than all":  {append(bytes.Clone(good), 0), &Mismatch{Offset: 2 * block, Extra: true}},
		"nothing at all": {nil, &Mismatch{Offset: 0, Short: true}},
	} {
		t.Run(name, func(t *testing.T) {
			v := NewVerifier(int64(len(good)))
			_, err := io.Copy(struct{ io.Writer }{v}, iotest.HalfReader(bytes.NewReader(test.stream)))
			if err == nil {
				err = v.Close()
			}
			var got *Mismatch
			if errors.As(err, &got) != (test.want != nil) || got != nil && *got != *test.want {
				t.Errorf("got %v, want %v", err, test.want)
			}
		})
	}
}

func get(t *testing.T, method, url string, body io.Reader, header ...string) (*http.Response, []byte) {
	t.Helper()
	req, err := http.NewRequestWithContext(t.Context(), method, url, body)
	if err != nil {
		t.Fatal(err)
	}
	for i := 0; i+1 < len(header); i += 2 {
		req.Header.Set(header[i], header[i+1])
	}
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer res.Body.Close()
	b, err := io.ReadAll(res.Body)
	if err != nil {
		t.Fatal(err)
	}
	return res, b
}

func TestAnswers(t *testing.T) {
	s := httptest.NewServer(Handler("server7"))
	defer s.Close()
	want := document(t, 200_000)

	res, got := get(t, "GET", s.URL+"/bytes/200000", nil)
	if res.StatusCode != 200 || !bytes.Equal(got, want) || res.ContentLength != 200000 || res.Header.Get(NodeHeader) != "server7" {
		t.Errorf("/bytes: %s, %d octets, right: %v, header %v", res.Status, len(got), bytes.Equal(got, want), res.Header)
	}
	if res, got = get(t, "GET", s.URL+"/bytes/200000", nil, "Range", "bytes=70000-130000"); res.StatusCode != 206 || !bytes.Equal(got, want[70000:130001]) {
		t.Errorf("a range of /bytes: %s, %d octets", res.Status, len(got))
	}
	if res, got = get(t, "HEAD", s.URL+"/bytes/200000", nil); res.StatusCode != 200 || res.ContentLength != 200000 || len(got) != 0 {
		t.Errorf("HEAD: %s, length %d, %d octets", res.Status, res.ContentLength, len(got))
	}
	if _, got = get(t, "GET", s.URL+"/whoami", nil); string(got) != "server7\n" {
		t.Errorf("/whoami: %q", got)
	}
	var e Echo
	sum := sha256.Sum256(want)
	if _, got = get(t, "POST", s.URL+"/echo", bytes.NewReader(want)); json.Unmarshal(got, &e) != nil || e != (Echo{200000, hex.EncodeToString(sum[:])}) {
		t.Errorf("/echo: %s", got)
	}
	begin := time.Now()
	if _, got = get(t, "GET", s.URL+"/slow?ms=30", nil); string(got) != "server7\n" || time.Since(begin) < 30*time.Millisecond {
		t.Errorf("/slow: %q after %v", got, time.Since(begin))
	}
	var r Request
	if _, got = get(t, "GET", s.URL+"/headers?q", nil, "X-Test", "1"); json.Unmarshal(got, &r) != nil || r.Headers.Get("X-Test") != "1" ||
		r.Target != "/headers?q" || r.Local != s.Listener.Addr().String() || r.Client == "" {
		t.Errorf("/headers: %s", got)
	}
	for _, bad := range []string{"/bytes/-1", "/bytes/x", "/bytes/1000000000001", "/slow?ms=-1", "/slow?ms=600001", "/slow"} {
		if res, _ = get(t, "GET", s.URL+bad, nil); res.StatusCode != 400 {
			t.Errorf("%s: %s, want 400", bad, res.Status)
		}
	}
	if res, _ = get(t, "GET", s.URL+"/", nil); res.StatusCode != 404 {
		t.Errorf("/: %s, want 404", res.Status)
	}
}

func BenchmarkContent(b *testing.B) {
	for _, n := range []int64{100, 16 << 20} {
		b.Run(fmt.Sprint(n), func(b *testing.B) {
			b.SetBytes(n)
			for b.Loop() {
				if _, err := io.CopyBuffer(io.Discard, struct{ io.Reader }{NewContent(n)}, make([]byte, 32<<10)); err != nil {
					b.Fatal(err)
				}
			}
		})
	}
}
