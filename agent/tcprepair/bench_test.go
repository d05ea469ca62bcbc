package tcprepair

import (
	"fmt"
	"testing"
)

// BenchmarkDumpRestore moves one connection in place, with a small request or with
// about 64 KiB unread: everything from Freeze to Activate, and parts of it.
func BenchmarkDumpRestore(b *testing.B) {
	for _, unread := range []int{300, 63 << 10} {
		b.Run(fmt.Sprintf("unread=%d", unread), func(b *testing.B) {
			bed := newBed(b)
			c, fd := bed.open("IPv4")
			if _, err := c.Write(pattern(unread, 1)); err != nil {
				b.Fatal(err)
			}
			bed.awaitUnread(fd, unread)
			b.Run("move", func(b *testing.B) {
				b.ReportAllocs()
				bed.hosts[0].Do(func() error {
					for b.Loop() {
						if err := Freeze(fd); err != nil {
							return err
						}
						s, err := Dump(fd)
						if err != nil {
							return err
						}
						if err := CloseSilently(fd); err != nil {
							return err
						}
						if fd, err = Restore(s); err != nil {
							return err
						}
						if err := Activate(fd, s); err != nil {
							return err
						}
					}
					return nil
				})
			})
			b.Run("dump", func(b *testing.B) {
				b.ReportAllocs()
				bed.must(Freeze(fd))
				for b.Loop() {
					if _, err := Dump(fd); err != nil {
						b.Fatal(err)
					}
				}
				bed.must(Thaw(fd, false))
			})
			b.Run("freeze+thaw", func(b *testing.B) {
				for b.Loop() {
					bed.must(Freeze(fd))
					bed.must(Thaw(fd, false))
				}
			})
			bed.must(CloseSilently(fd))
		})
	}
}
