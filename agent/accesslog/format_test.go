package accesslog

import (
	"encoding/json"
	"net/netip"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"time"
	"unicode"
	"unicode/utf8"
)

// handedOff is a request as most are.
var handedOff = Entry{
	Time:   time.Date(2026, 11, 23, 1, 2, 3, 456789000, time.FixedZone("", 3600)),
	Client: netip.MustParseAddrPort("192.0.2.7:40000"), VIP: netip.MustParseAddrPort("10.10.0.80:80"), Service: "web",
	Method: "GET", Target: "/a?b=c", Proto: "HTTP/1.1", Host: "www.example.com", Referer: "http://www.example.com/", Agent: "curl/8",
	Server: "server1", Path: HandedOff, Octets: -1, Attempts: 1, Cost: 312 * time.Microsecond,
	Handoff: "d1-0000002a-7", Trace: "0af7651916cd43dd8448eb211c80319c",
}

func TestLines(t *testing.T) {
	refused := Entry{
		Time: handedOff.Time, Client: netip.MustParseAddrPort("[2001:db8::7]:40000"), Service: "web", Path: Refused, Status: 400, Octets: 31,
	}
	hostile := handedOff
	hostile.Target, hostile.Agent, hostile.Referer = "/\"\r\n10.0.0.1 - -", "\x1b[2J\u009b\u202e\\\xff\U000e0001 ü", ""
	for _, c := range []struct {
		name   string
		format Format
		entry  Entry
		want   string
	}{
		{"common", Common, handedOff, `192.0.2.7 - - [23/Nov/2026:01:02:03 +0100] "GET /a?b=c HTTP/1.1" - - server=server1 path=handed_off cost_us=312 service=web trace=0af7651916cd43dd8448eb211c80319c`},
		{"combined", Combined, handedOff, `192.0.2.7 - - [23/Nov/2026:01:02:03 +0100] "GET /a?b=c HTTP/1.1" - - "http://www.example.com/" "curl/8" server=server1 path=handed_off cost_us=312 service=web trace=0af7651916cd43dd8448eb211c80319c`},
		{"JSON", JSON, handedOff, `{"time":"2026-11-23T00:02:03.456789Z","client":"192.0.2.7","client_port":40000,"vip":"10.10.0.80:80","service":"web","method":"GET","target":"/a?b=c","protocol":"HTTP/1.1","host":"www.example.com","referer":"http://www.example.com/","user_agent":"curl/8","server":"server1","path":"handed_off","status":null,"octets":null,"attempts":1,"cost_us":312,"handoff":"d1-0000002a-7","trace_id":"0af7651916cd43dd8448eb211c80319c"}`},
		{"refused, common", Common, refused, `2001:db8::7 - - [23/Nov/2026:01:02:03 +0100] "-" 400 31 server=- path=refused cost_us=- service=web trace=-`},
		{"refused, combined", Combined, refused, `2001:db8::7 - - [23/Nov/2026:01:02:03 +0100] "-" 400 31 "-" "-" server=- path=refused cost_us=- service=web trace=-`},
		{"refused, JSON", JSON, refused, `{"time":"2026-11-23T00:02:03.456789Z","client":"2001:db8::7","client_port":40000,"service":"web","path":"refused","status":400,"octets":31,"attempts":0,"cost_us":null}`},
		{"hostile, combined", Combined, hostile, `192.0.2.7 - - [23/Nov/2026:01:02:03 +0100] "GET /\"\x0d\x0a10.0.0.1 - - HTTP/1.1" - - "-" "\x1b[2J\xc2\x9b\xe2\x80\xae\\\xff\xf3\xa0\x80\x81 \xc3\xbc" server=server1 path=handed_off cost_us=312 service=web trace=0af7651916cd43dd8448eb211c80319c`},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := string(c.format.Append(nil, &c.entry)); got != c.want+"\n" {
				t.Errorf("got\n%swant\n%s", got, c.want)
			}
		})
	}
	line := string(JSON.Append(nil, &hostile))
	if want := `"user_agent":"\u001b[2J\u009b\u202e\\` + "\ufffd" + `\udb40\udc01 ü"`; !strings.Contains(line, want) {
		t.Errorf("hostile, JSON: no %s in %s", want, line)
	}
}

// combined takes the format apart, as programs that read it do.
var combined = regexp.MustCompile(`^(\S+) - - \[[^]]+\] "((?:[^"\\]|\\.)*)" (\S+) (\S+) "((?:[^"\\]|\\.)*)" "((?:[^"\\]|\\.)*)" server=(\S+) path=(\S+) cost_us=(\S+) service=(\S+) trace=(\S+)\n$`)

// unescape undoes appendEscaped.
func unescape(s string) string {
	var b strings.Builder
	for i := 0; i < len(s); i++ {
		switch {
		case s[i] != '\\':
			b.WriteByte(s[i])
		case s[i+1] == 'x':
			n, _ := strconv.ParseUint(s[i+2:i+4], 16, 8)
			b.WriteByte(byte(n))
			i += 3
		default:
			i++
			b.WriteByte(s[i])
		}
	}
	return b.String()
}

func FuzzHostileRequests(f *testing.F) {
	f.Add("GET", "/", "HTTP/1.1", "", "curl/8")
	f.Add("GET", "/\" 200 1 \"\n", "HTTP/1.1", "\\", "\\\"")
	f.Add("", "\x00\x7f", "\xff\xfe", "\u2028\u202e", "\U000e0001")
	f.Add("G\\x41", "\\", "\"", "\r", "\xed\xa0\x80")
	f.Fuzz(func(t *testing.T, method, target, proto, referer, agent string) {
		e := handedOff
		e.Method, e.Target, e.Proto, e.Referer, e.Agent = method, target, proto, referer, agent
		line := string(Combined.Append(nil, &e))
		for i, c := range []byte(line) {
			if (c < 0x20 || c >= 0x7f) && i != len(line)-1 {
				t.Fatalf("octet %#x in %q", c, line)
			}
		}
		m := combined.FindStringSubmatch(line)
		if m == nil {
			t.Fatalf("cannot be taken apart: %q", line)
		}
		request := method + " " + target + " " + proto
		if method == "" {
			request = "-"
		}
		if unescape(m[2]) != request || unescape(m[5]) != orDash(referer) || unescape(m[6]) != orDash(agent) || m[7] != "server1" {
			t.Fatalf("%q says something else", line)
		}

		line = string(JSON.Append(nil, &e))
		for i, r := range line {
			if !unicode.IsPrint(r) && i != len(line)-1 {
				t.Fatalf("character %U in %q", r, line)
			}
		}
		var back struct {
			Method, Target, Protocol, Referer string
			Agent                             string `json:"user_agent"`
		}
		if err := json.Unmarshal([]byte(line), &back); err != nil {
			t.Fatalf("%v: %q", err, line)
		}
		for _, s := range [][2]string{{method, back.Method}, {target, back.Target}, {proto, back.Protocol}, {referer, back.Referer}, {agent, back.Agent}} {
			if utf8.ValidString(s[0]) && s[0] != s[1] {
				t.Fatalf("%q became %q", s[0], s[1])
			}
		}
	})
}

func BenchmarkAppend(b *testing.B) {
	for _, f := range []Format{Common, Combined, JSON} {
		b.Run(string(f), func(b *testing.B) {
			var line []byte
			b.ReportAllocs()
			for b.Loop() {
				line = f.Append(line[:0], &handedOff)
			}
		})
	}
}
