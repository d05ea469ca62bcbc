package afpacket

import (
	"encoding/binary"
	"slices"
	"syscall"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/switchsim/packet"
)

// BatchSize is the number of frames that one Read returns at most.
const BatchSize = 32

// maxFrame is the largest frame taken: a 64 KiB segment with its headers. Larger
// ones (BIG TCP) are dropped.
const maxFrame = 65536 + 256

// headroom lies before each frame: the offload header, and 6 octets to align it.
const headroom = 16

// mmsghdr is struct mmsghdr of recvmmsg(2) and sendmmsg(2).
type mmsghdr struct {
	hdr unix.Msghdr
	len uint32
	_   [4]byte
}

// A Frame is a received frame. Data may be written to until the next Read.
type Frame struct {
	Data    []byte
	Offload packet.Offload
}

// A Batch holds the memory that frames are received into.
type Batch struct {
	Frames []Frame

	buffers [BatchSize][]byte
	control [BatchSize][64]byte
	iov     [BatchSize]unix.Iovec
	msgs    [BatchSize]mmsghdr
}

// NewBatch returns an empty batch, of about 2 MB.
func NewBatch() *Batch {
	b := &Batch{Frames: make([]Frame, 0, BatchSize)}
	for i := range b.msgs {
		b.buffers[i] = make([]byte, headroom+maxFrame)
		b.iov[i].Base = &b.buffers[i][headroom-packet.OffloadLen]
		b.iov[i].SetLen(packet.OffloadLen + maxFrame)
		b.msgs[i].hdr.Iov = &b.iov[i]
		b.msgs[i].hdr.SetIovlen(1)
	}
	return b
}

// Read waits for frames and puts those that are there, one at least, into the
// batch. It returns ErrClosed after Close; other errors, such as ENETDOWN while
// the interface is down, leave the port usable.
func (p *Port) Read(b *Batch) error {
	for {
		b.Frames = b.Frames[:0]
		var n int
		var errno syscall.Errno
		err := p.raw.Read(func(fd uintptr) bool {
			n, errno = b.receive(fd)
			return errno != unix.EAGAIN
		})
		switch {
		case err != nil: // without deadlines there is no other reason
			return ErrClosed
		case errno == unix.EINTR:
			continue
		case errno != 0:
			return errno
		}
		for i := range n {
			b.take(i)
		}
		if len(b.Frames) > 0 {
			return nil
		}
	}
}

func (b *Batch) receive(fd uintptr) (int, syscall.Errno) {
	for i := range b.msgs {
		b.msgs[i].hdr.Control = &b.control[i][0]
		b.msgs[i].hdr.SetControllen(len(b.control[i]))
	}
	n, _, errno := unix.Syscall6(unix.SYS_RECVMMSG, fd, uintptr(unsafe.Pointer(&b.msgs[0])), BatchSize, unix.MSG_DONTWAIT, 0, 0)
	if errno != 0 {
		return 0, errno
	}
	return int(n), 0
}

// take appends the frame of a message, if it is whole.
func (b *Batch) take(i int) {
	m := &b.msgs[i]
	size := int(m.len) - packet.OffloadLen
	if m.hdr.Flags&unix.MSG_TRUNC != 0 || size < 14 {
		return
	}
	buf := b.buffers[i]
	off, err := packet.DecodeOffload(buf[headroom-packet.OffloadLen:])
	if err != nil {
		return
	}
	data := buf[headroom : headroom+size]
	if tci, tpid, ok := vlanTag(b.control[i][:m.hdr.Controllen]); ok {
		// The kernel took the tag out of the frame; the headroom has space for it.
		data = buf[headroom-4 : headroom+size]
		copy(data, data[4:16])
		binary.BigEndian.PutUint16(data[12:], tpid)
		binary.BigEndian.PutUint16(data[14:], tci)
		off = off.Shifted(4)
	}
	b.Frames = append(b.Frames, Frame{data, off})
}

// vlanTag finds the tag that the kernel keeps beside the frame: struct
// tpacket_auxdata in a control message.
func vlanTag(control []byte) (tci, tpid uint16, ok bool) {
	const cmsgHeader = 16
	e := binary.NativeEndian
	if len(control) < cmsgHeader+20 || e.Uint32(control[8:]) != unix.SOL_PACKET || e.Uint32(control[12:]) != unix.PACKET_AUXDATA {
		return 0, 0, false
	}
	aux := control[cmsgHeader:]
	if e.Uint32(aux)&unix.TP_STATUS_VLAN_VALID == 0 {
		return 0, 0, false
	}
	tpid = unix.ETH_P_8021Q
	if e.Uint32(aux)&unix.TP_STATUS_VLAN_TPID_VALID != 0 {
		tpid = e.Uint16(aux[18:])
	}
	return e.Uint16(aux[16:]), tpid, true
}

// A Writer gathers frames and sends them out of a port. It belongs to one goroutine.
type Writer struct {
	headers [BatchSize][packet.OffloadLen]byte
	iov     [2 * BatchSize]unix.Iovec
	msgs    [BatchSize]mmsghdr
	frames  [][]byte // keeps the memory alive
}

// NewWriter returns an empty writer.
func NewWriter() *Writer {
	w := &Writer{frames: make([][]byte, 0, BatchSize)}
	for i := range w.msgs {
		w.iov[2*i].Base = &w.headers[i][0]
		w.iov[2*i].SetLen(packet.OffloadLen)
		w.msgs[i].hdr.Iov = &w.iov[2*i]
		w.msgs[i].hdr.SetIovlen(2)
	}
	return w
}

// Add adds a frame of at least 14 octets. Its memory must stay as it is until
// Flush. It returns false, and adds nothing, if the writer is full.
func (w *Writer) Add(data []byte, off packet.Offload) bool {
	i := len(w.frames)
	if i == BatchSize {
		return false
	}
	w.frames = append(w.frames, data)
	off.Encode(w.headers[i][:])
	w.iov[2*i+1].Base = &data[0]
	w.iov[2*i+1].SetLen(len(data))
	return true
}

// Sent is what became of the frames of a Flush.
type Sent struct{ Packets, Bytes, Dropped uint64 }

// Flush sends the frames and empties the writer. It does not wait: frames for
// which the interface has no room are dropped, as a switch does.
func (w *Writer) Flush(p *Port) (s Sent) {
	total := len(w.frames)
	if total == 0 {
		return s
	}
	err := p.raw.Control(func(fd uintptr) {
		for at := 0; at < total; {
			n, _, errno := unix.Syscall6(unix.SYS_SENDMMSG, fd, uintptr(unsafe.Pointer(&w.msgs[at])), uintptr(total-at), unix.MSG_DONTWAIT, 0, 0)
			switch {
			case errno == unix.EINTR:
			case errno == unix.EAGAIN:
				s.Dropped += uint64(total - at)
				at = total
			case errno != 0: // this frame is lost: full queue, too large, link down
				s.Dropped++
				at++
			default:
				for range int(n) {
					s.Packets++
					s.Bytes += uint64(len(w.frames[at]))
					at++
				}
			}
		}
	})
	if err != nil {
		s.Dropped += uint64(total)
	}
	clear(w.frames)
	w.frames = slices.Delete(w.frames, 0, total)
	return s
}
