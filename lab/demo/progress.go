package demo

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// progress shows how far a part is: a line that changes on a terminal, one
// line at the end elsewhere. The zero pointer shows nothing.
type progress struct {
	out      io.Writer
	terminal bool
	what     string
	total    int64
	unit     string // "B": octets; else a count
	begin    time.Time

	mu    sync.Mutex // guards what follows
	done  int64
	shown time.Time
}

const showEvery = 100 * time.Millisecond

func newProgress(out io.Writer, what string, total int64, unit string) *progress {
	p := &progress{out: out, what: what, total: total, unit: unit, begin: time.Now()}
	if f, ok := out.(*os.File); ok {
		st, err := f.Stat()
		p.terminal = err == nil && st.Mode()&os.ModeCharDevice != 0
	}
	return p
}

func (p *progress) add(n int64) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.done += n
	if p.terminal && time.Since(p.shown) >= showEvery {
		p.shown = time.Now()
		p.line("\r")
	}
}

// end shows the final state.
func (p *progress) end() {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.terminal {
		fmt.Fprint(p.out, "\r")
	}
	p.line("")
	fmt.Fprintln(p.out)
}

func (p *progress) line(before string) {
	passed := time.Since(p.begin)
	speed := fmt.Sprintf("%.0f/s", float64(p.done)/passed.Seconds())
	if p.unit == "B" {
		speed = fmt.Sprintf("%.0f Mbit/s", float64(p.done)*8/passed.Seconds()/1e6)
	}
	fmt.Fprintf(p.out, "%s  %-32s %3d %%  %6.1f s  %-12s", before, p.what, p.done*100/max(p.total, 1), passed.Seconds(), speed)
}

// reader counts what is read from r.
func (p *progress) reader(r io.Reader) io.Reader {
	if p == nil {
		return r
	}
	return &counter{r, p}
}

type counter struct {
	r io.Reader
	p *progress
}

func (c *counter) Read(b []byte) (int, error) {
	n, err := c.r.Read(b)
	c.p.add(int64(n))
	return n, err
}

func megabytes(n int64) string { return fmt.Sprintf("%.0f MB", float64(n)/1e6) }
