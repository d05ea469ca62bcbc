package app

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"math/rand/v2"
)

// Content is the document of a length: octet i is the same in all documents
// and on all servers. No two of its first 2^20 blocks of 64 KiB are alike, so
// that octets that are lost, doubled or out of order do not go unnoticed.
// It costs no more than copying. The zero value is the empty document.
type Content struct {
	size, offset int64
}

const (
	blockBits  = 16
	block      = 1 << blockBits // octets that stand in the table in one piece
	phases     = 1 << 20        // places in the table where a block can begin
	multiplier = 0x9e375        // odd: consecutive blocks begin at different, distant places
)

// table is pseudo-random: the ChaCha8 stream of a fixed seed.
var table = func() []byte {
	t := make([]byte, phases+block)
	r := rand.NewChaCha8([32]byte([]byte("shunt lab: the octets of /bytes ")))
	_, _ = r.Read(t) // cannot fail
	return t
}()

// NewContent returns the document of size octets, at its beginning.
func NewContent(size int64) *Content { return &Content{size: size} }

// run returns octets from off to the end of the block or of the document.
func (c *Content) run(off int64) []byte {
	index, within := off>>blockBits, off&(block-1)
	start := (index * multiplier) & (phases - 1)
	n := min(block-within, c.size-off)
	return table[start+within : start+within+n]
}

func (c *Content) Read(p []byte) (n int, err error) {
	for n < len(p) && c.offset < c.size {
		m := copy(p[n:], c.run(c.offset))
		n += m
		c.offset += int64(m)
	}
	if n == 0 && len(p) > 0 {
		return 0, io.EOF
	}
	return n, nil
}

// WriteTo writes the rest of the document without copying it.
func (c *Content) WriteTo(w io.Writer) (n int64, err error) {
	for c.offset < c.size {
		m, err := w.Write(c.run(c.offset))
		n += int64(m)
		c.offset += int64(m)
		if err != nil {
			return n, err
		}
	}
	return n, nil
}

func (c *Content) Seek(offset int64, whence int) (int64, error) {
	switch whence {
	case io.SeekStart:
	case io.SeekCurrent:
		offset += c.offset
	case io.SeekEnd:
		offset += c.size
	default:
		return 0, fmt.Errorf("seek in a document: unknown whence %d", whence)
	}
	if offset < 0 {
		return 0, errors.New("seek in a document: before its beginning")
	}
	c.offset = offset
	return offset, nil
}

// Mismatch is what Verify returns for octets that are not the document's.
type Mismatch struct {
	// Offset is the first wrong octet's.
	Offset int64
	// Extra is set if the document should have ended there, Short if the
	// stream ended there.
	Extra, Short bool
}

func (m *Mismatch) Error() string {
	switch {
	case m.Extra:
		return fmt.Sprintf("octets beyond the document's end at %d", m.Offset)
	case m.Short:
		return fmt.Sprintf("the document ends early, at %d", m.Offset)
	}
	return fmt.Sprintf("wrong octet at %d", m.Offset)
}

// Verifier is an io.Writer that compares what is written with the document.
type Verifier struct{ want Content }

// NewVerifier expects the document of size octets.
func NewVerifier(size int64) *Verifier { return &Verifier{want: Content{size: size}} }

// Write returns a *Mismatch at the first wrong octet.
func (v *Verifier) Write(p []byte) (n int, err error) {
	for n < len(p) {
		if v.want.offset >= v.want.size {
			return n, &Mismatch{Offset: v.want.offset, Extra: true}
		}
		want := v.want.run(v.want.offset)
		got := p[n:min(len(p), n+len(want))]
		if !bytes.Equal(got, want[:len(got)]) {
			i := 0
			for got[i] == want[i] {
				i++
			}
			return n + i, &Mismatch{Offset: v.want.offset + int64(i)}
		}
		n += len(got)
		v.want.offset += int64(len(got))
	}
	return n, nil
}

// Close returns a *Mismatch if octets are missing at the end.
func (v *Verifier) Close() error {
	if v.want.offset < v.want.size {
		return &Mismatch{Offset: v.want.offset, Short: true}
	}
	return nil
}
