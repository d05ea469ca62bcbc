package accesslog

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"os"
	"sync/atomic"
)

// queueLength is how many entries wait for the disk.
const queueLength = 8192

// A Log writes entries to a file. Write may be called from any goroutine; Run is
// the only writer.
type Log struct {
	c       Config
	log     *slog.Logger
	queue   chan Entry
	reopen  chan struct{}
	written atomic.Uint64
	dropped atomic.Uint64

	// Run's own.
	file    *os.File
	out     *bufio.Writer
	failing bool
}

// Open opens the file for appending, and creates it, readable for its owner and
// group. It returns nil if the configuration wants no log.
func Open(c Config, log *slog.Logger) (*Log, error) {
	if c.Path == "" {
		return nil, nil
	}
	l := &Log{c: c, log: log, queue: make(chan Entry, queueLength), reopen: make(chan struct{}, 1)}
	f, err := l.open()
	if err != nil {
		return nil, fmt.Errorf("access log: %w; correct access_log.path or the directory's permissions", err)
	}
	l.file, l.out = f, bufio.NewWriterSize(f, 64<<10)
	return l, nil
}

func (l *Log) open() (*os.File, error) {
	if l.c.Path == Stdout {
		return os.Stdout, nil
	}
	return os.OpenFile(l.c.Path, os.O_WRONLY|os.O_APPEND|os.O_CREATE, 0o640)
}

// Write queues an entry, or drops it when too many wait. A nil Log drops all.
func (l *Log) Write(e Entry) {
	if l == nil {
		return
	}
	select {
	case l.queue <- e:
	default:
		l.dropped.Add(1)
	}
}

// Reopen has the file opened anew, as after it was renamed. It does not wait.
func (l *Log) Reopen() {
	if l == nil {
		return
	}
	select {
	case l.reopen <- struct{}{}:
	default:
	}
}

// Counters returns how many lines were written, and how many were lost because
// too many waited or the file could not be written.
func (l *Log) Counters() (written, dropped uint64) {
	if l == nil {
		return 0, 0
	}
	return l.written.Load(), l.dropped.Load()
}

// Run writes until ctx ends, then what is queued, and closes the file.
func (l *Log) Run(ctx context.Context) error {
	var line []byte
	pending := 0 // lines in the buffer
	put := func(e Entry) {
		line = l.c.Format.Append(line[:0], &e)
		pending++
		if _, err := l.out.Write(line); err != nil {
			l.lost(pending, err)
			pending = 0
		}
	}
	flush := func() {
		if err := l.out.Flush(); err != nil {
			l.lost(pending, err)
		} else if l.written.Add(uint64(pending)); pending > 0 {
			l.failing = false
		}
		pending = 0
	}
	for {
		select {
		case e := <-l.queue:
			put(e)
			if len(l.queue) == 0 {
				flush()
			}
		case <-l.reopen:
			flush()
			l.renew()
		case <-ctx.Done():
			for len(l.queue) > 0 {
				put(<-l.queue)
			}
			flush()
			return l.close()
		}
	}
}

// lost counts lines that the file did not take, and says so once until it does.
func (l *Log) lost(lines int, err error) {
	l.dropped.Add(uint64(lines))
	if !l.failing {
		l.log.Error("lines of the access log are lost", "path", l.c.Path, "err", err)
	}
	l.failing = true
	l.out.Reset(l.file) // an error of a bufio.Writer stays
}

// renew opens the file anew; if that fails the old one goes on.
func (l *Log) renew() {
	f, err := l.open()
	if err != nil {
		l.log.Error("cannot open the access log anew; it goes on in the old file", "path", l.c.Path, "err", err)
		return
	}
	if err := l.close(); err != nil {
		l.log.Error("cannot close the old access log", "path", l.c.Path, "err", err)
	}
	l.file = f
	l.out.Reset(io.Writer(f))
	l.log.Info("access log opened anew", "path", l.c.Path)
}

func (l *Log) close() error {
	if l.file == os.Stdout {
		return nil
	}
	return l.file.Close()
}
