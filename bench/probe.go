package main

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"net/url"
	"os"
	"os/exec"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/internal/sysmon"
)

// probe is the process inside the client's namespace: either
//
//	probe SIZE N URL…     N requests one after the other, to the URLs in turn; prints their times
//	probe hold ADDR FROM N   N idle keep-alive connections until its input ends
func probe(args []string) {
	var err error
	if args[0] == "hold" {
		err = hold(args[1], args[2], args[3])
	} else {
		err = fetch(args[0], args[1], args[2:])
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "probe:", err)
		os.Exit(1)
	}
}

// pause lies between requests, so that what a request leaves to be tidied up is
// not counted as the next one's time.
const pause = 3 * time.Millisecond

var wait = unix.NsecToTimespec(pause.Nanoseconds())

// target is what one URL leads to.
type target struct {
	to      netip.AddrPort
	request string
}

func parseTarget(raw string) (target, error) {
	u, err := url.Parse(raw)
	if err != nil {
		return target{}, err
	}
	to, err := netip.ParseAddrPort(u.Host)
	return target{to, fmt.Sprintf("GET %s HTTP/1.1\r\nHost: %s\r\nConnection: close\r\n\r\n", u.Path, u.Host)}, err
}

func fetch(size, count string, urls []string) error {
	var targets []target
	for _, u := range urls {
		t, err := parseTarget(u)
		if err != nil {
			return err
		}
		targets = append(targets, t)
	}
	want, err := strconv.Atoi(size)
	if err != nil {
		return err
	}
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	if err := sysmon.Relax(time.Second); err != nil {
		return err
	}
	took := make([]time.Duration, 0, n)
	answer := bufio.NewReaderSize(nil, 256<<10)
	for i := range n {
		t := &targets[i%len(targets)]
		begun := time.Now()
		got, err := once(t.to, t.request, answer)
		if err != nil {
			return err
		}
		if got != want {
			return fmt.Errorf("%v: %d octets, want %d", t.to, got, want)
		}
		took = append(took, time.Since(begun))
		if err := unix.Nanosleep(&wait, nil); err != nil && err != unix.EINTR {
			return fmt.Errorf("pause: %w", err)
		}
	}
	return json.NewEncoder(os.Stdout).Encode(took)
}

// once makes one request and counts the octets of the answer's body. It reads
// them as a client does that has better things to do than to look at them, and
// allocates little: what the client does while its request is on its way keeps
// the processor from those who are measured.
func once(to netip.AddrPort, request string, answer *bufio.Reader) (int, error) {
	s, err := dial(to)
	if err != nil {
		return 0, err
	}
	defer unix.Close(int(s))
	if n, err := unix.Write(int(s), []byte(request)); err != nil || n != len(request) {
		return 0, fmt.Errorf("send the request: %d of %d octets: %w", n, len(request), err)
	}
	answer.Reset(s)
	resp, err := http.ReadResponse(answer, nil)
	if err != nil {
		return 0, err
	}
	if resp.StatusCode != http.StatusOK {
		return 0, errors.New(resp.Status)
	}
	n, err := io.Copy(io.Discard, resp.Body)
	return int(n), err
}

// socket is a blocking socket, as a client in C has it: net's are polled, for
// which the runtime wakes threads of its own, beside the processes measured.
type socket int

func dial(to netip.AddrPort) (socket, error) {
	family, sa := unix.AF_INET6, unix.Sockaddr(&unix.SockaddrInet6{Addr: to.Addr().As16(), Port: int(to.Port())})
	if to.Addr().Is4() {
		family, sa = unix.AF_INET, &unix.SockaddrInet4{Addr: to.Addr().As4(), Port: int(to.Port())}
	}
	fd, err := unix.Socket(family, unix.SOCK_STREAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("make a socket: %w", err)
	}
	if err := unix.Connect(fd, sa); err != nil {
		unix.Close(fd)
		return -1, fmt.Errorf("connect to %v: %w", to, err)
	}
	return socket(fd), nil
}

func (s socket) Read(p []byte) (int, error) {
	for {
		n, err := unix.Read(int(s), p)
		if err == unix.EINTR {
			continue
		}
		if err == nil && n == 0 && len(p) > 0 {
			return 0, io.EOF
		}
		return max(n, 0), err
	}
}

// perHolder is how many connections one process and one client address hold:
// within common limits of open files, and within the 28,232 ports of the default
// net.ipv4.ip_local_port_range.
const perHolder = 15_000

// holdFrom is where the held connections' client addresses begin, inside the
// clients' network of the lab.
var holdFrom = netip.MustParseAddr("10.10.1.200")

func hold(target, from, count string) error {
	n, err := strconv.Atoi(count)
	if err != nil {
		return err
	}
	var made atomic.Int64
	var wg sync.WaitGroup
	errs := make(chan error, 32)
	conns := make([]net.Conn, n)
	for w := range 32 {
		wg.Go(func() {
			for i := w; i < n; i += 32 {
				c, err := holdOne(target, from)
				if err != nil {
					errs <- fmt.Errorf("connection %d: %w", i, err)
					return
				}
				conns[i] = c
				made.Add(1)
			}
		})
	}
	wg.Wait()
	select {
	case err := <-errs:
		return err
	default:
	}
	fmt.Println("held", made.Load())
	io.Copy(io.Discard, os.Stdin)
	for _, c := range conns {
		c.Close()
	}
	return nil
}

func holdOne(target, from string) (net.Conn, error) {
	local, err := netip.ParseAddr(from)
	if err != nil {
		return nil, err
	}
	d := net.Dialer{LocalAddr: &net.TCPAddr{IP: local.AsSlice()}, Timeout: 10 * time.Second, KeepAlive: -1}
	c, err := d.Dial("tcp", target)
	if err != nil {
		return nil, err
	}
	if _, err := fmt.Fprintf(c, "GET /bytes/1 HTTP/1.1\r\nHost: %s\r\n\r\n", target); err != nil {
		return c, err
	}
	r := bufio.NewReaderSize(c, 512)
	resp, err := http.ReadResponse(r, nil)
	if err != nil {
		return c, err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return c, err
}

// holder is a running `probe hold`.
type holder struct {
	cmd *exec.Cmd
	in  io.Closer
}

func (h *holder) release() {
	h.in.Close()
	h.cmd.Wait()
}

// hold has the client make n idle sessions; release ends them.
func (b *bench) hold(ctx context.Context, n int) (release func(), err error) {
	var holders []*holder
	release = func() {
		for _, h := range holders {
			h.release()
		}
	}
	defer func() {
		if err != nil {
			release()
		}
	}()
	for from := holdFrom; n > 0; from, n = from.Next(), n-perHolder {
		if out, err := b.lab.Exec(ctx, "client1", "ip", "addr", "add", from.String()+"/24", "dev", "eth0"); err != nil {
			return nil, fmt.Errorf("give the client another address: %w: %s", err, out)
		}
		h, err := b.holdFrom(ctx, from, min(n, perHolder))
		if err != nil {
			return nil, err
		}
		holders = append(holders, h)
	}
	return release, nil
}

func (b *bench) holdFrom(ctx context.Context, from netip.Addr, n int) (*holder, error) {
	self, err := os.Executable()
	if err != nil {
		return nil, err
	}
	target := net.JoinHostPort(b.lab.Service().VIP.String(), strconv.Itoa(int(b.lab.Service().Port)))
	cmd := exec.CommandContext(ctx, self, "probe", "hold", target, from.String(), strconv.Itoa(n))
	cmd.Stderr = os.Stderr
	in, err := cmd.StdinPipe()
	if err != nil {
		return nil, err
	}
	out, err := cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	if err := b.lab.StartCommand("client1", cmd); err != nil {
		return nil, err
	}
	h := &holder{cmd, in}
	if _, err := bufio.NewReader(out).ReadString('\n'); err != nil {
		h.release()
		return nil, fmt.Errorf("hold %d sessions from %s: %w", n, from, err)
	}
	return h, nil
}
