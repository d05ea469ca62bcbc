package accesslog

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"

	conf "github.com/shunt-sdn/shunt/internal/yamlconf"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// start runs a log until the test, or the function, ends it.
func start(t *testing.T, l *Log) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- l.Run(ctx) }()
	stopped := false
	stop = func() {
		if stopped {
			return
		}
		stopped = true
		cancel()
		if err := <-done; err != nil {
			t.Errorf("run: %v", err)
		}
	}
	t.Cleanup(stop)
	return stop
}

func eventually(t *testing.T, what string, f func() bool) {
	t.Helper()
	for end := time.Now().Add(10 * time.Second); !f(); {
		if time.Now().After(end) {
			t.Fatalf("not in time: %s", what)
		}
		<-time.After(5 * time.Millisecond)
	}
}

func lines(t *testing.T, path string) int {
	t.Helper()
	b, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return bytes.Count(b, []byte{'\n'})
}

func TestEveryLineIsInOneOfTheFilesAcrossRotations(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "access.log")
	l, err := Open(Config{Path: path, Format: Combined}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, l)
	const rotations, each = 5, 500
	for i := range rotations {
		for range each {
			l.Write(handedOff)
		}
		if err := os.Rename(path, path+"."+strconv.Itoa(i)); err != nil {
			t.Fatal(err)
		}
		l.Reopen()
		eventually(t, "a new file", func() bool { _, err := os.Stat(path); return err == nil })
	}
	l.Write(handedOff)
	stop()
	total := lines(t, path)
	for i := range rotations {
		total += lines(t, path+"."+strconv.Itoa(i))
	}
	written, dropped := l.Counters()
	if total != rotations*each+1 || written != uint64(total) || dropped != 0 {
		t.Errorf("%d lines in the files, %d written and %d dropped, of %d", total, written, dropped, rotations*each+1)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm()&0o007 != 0 {
		t.Errorf("others may read it: %v, %v", info.Mode(), err)
	}
}

func TestAWriterThatHangsHoldsNoRequestUp(t *testing.T) {
	l, err := Open(Config{Path: filepath.Join(t.TempDir(), "a.log"), Format: Common}, slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	// Nobody runs it: nothing is taken from the queue.
	for range queueLength + 10 {
		l.Write(handedOff)
	}
	if _, dropped := l.Counters(); dropped != 10 {
		t.Errorf("%d dropped, want 10", dropped)
	}
	start(t, l)()
	if written, dropped := l.Counters(); written != queueLength || dropped != 10 {
		t.Errorf("%d written and %d dropped in the end", written, dropped)
	}
}

func TestAFullDiskIsSaidOnce(t *testing.T) {
	var log bytes.Buffer
	l, err := Open(Config{Path: "/dev/full", Format: Common}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, l)
	for i := range 3 {
		l.Write(handedOff)
		eventually(t, "a line is given up", func() bool { _, dropped := l.Counters(); return dropped == uint64(i+1) })
	}
	stop()
	if n := strings.Count(log.String(), "lines of the access log are lost"); n != 1 {
		t.Errorf("said %d times: %s", n, &log)
	}
}

func TestAFileThatCannotBeOpened(t *testing.T) {
	_, err := Open(Config{Path: "/proc/nothing/access.log"}, slog.New(slog.DiscardHandler))
	if err == nil || !strings.Contains(err.Error(), "correct access_log.path") {
		t.Errorf("at the start: %v", err)
	}
	dir := filepath.Join(t.TempDir(), "logs")
	if err := os.Mkdir(dir, 0o755); err != nil {
		t.Fatal(err)
	}
	var log bytes.Buffer
	l, err := Open(Config{Path: filepath.Join(dir, "a.log"), Format: Common}, slog.New(slog.NewTextHandler(&log, nil)))
	if err != nil {
		t.Fatal(err)
	}
	stop := start(t, l)
	if err := os.Rename(dir, dir+".old"); err != nil {
		t.Fatal(err)
	}
	l.Reopen()
	l.Write(handedOff)
	eventually(t, "the old file goes on", func() bool { w, _ := l.Counters(); return w == 1 })
	stop()
	if lines(t, filepath.Join(dir+".old", "a.log")) != 1 {
		t.Errorf("log: %s", &log)
	}
}

func TestNoLogTakesEverything(t *testing.T) {
	l, err := Open(Config{}, nil)
	if l != nil || err != nil {
		t.Fatalf("%v, %v", l, err)
	}
	l.Write(handedOff)
	l.Reopen()
	if w, d := l.Counters(); w+d != 0 {
		t.Errorf("%d, %d", w, d)
	}
}

func TestTheKeyIsReadStrictly(t *testing.T) {
	read := func(text string) (c Config, err error) {
		r := conf.NewReader("a.yaml")
		if root := r.Root([]byte(text)); root != nil {
			r.Mapping(root, "the configuration", conf.Optional("access_log", Read(r, &c)))
		}
		return c, r.Err()
	}
	for text, want := range map[string]Config{
		"access_log: {path: stdout}":                       {Stdout, Common},
		"access_log: {path: /var/log/a.log, format: json}": {"/var/log/a.log", JSON},
	} {
		if got, err := read(text); err != nil || got != want {
			t.Errorf("%s: %+v, %v", text, got, err)
		}
	}
	for text, want := range map[string]string{
		"access_log: {format: json}":              `a.yaml:1:13: access_log has no "path"; write the file's absolute path, or stdout`,
		"access_log: {path: a.log}":               `a.yaml:1:20: access_log.path "a.log" is a relative path; write an absolute one, or stdout`,
		"access_log: {path: stdout, format: xml}": `a.yaml:1:36: access_log.format "xml" is unknown; write common, combined or json`,
	} {
		if _, err := read(text); err == nil || err.Error() != want {
			t.Errorf("%s: %v, want %s", text, err, want)
		}
	}
}
