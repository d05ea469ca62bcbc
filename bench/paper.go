package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"slices"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"github.com/shunt-sdn/shunt/lab"
)

// This file repeats the measurements of "TCP-Migration with Application-Layer
// Dispatching" (COMSWARE 2006): mini_httpd answers, wget asks. There a migration
// added about 1 ms, whatever the reply's size, and any number of virtual private
// addresses on a server cost next to nothing.

// paper measures in a lab of its own.
func paper(ctx context.Context, binary, preload, steering, congestion string, rounds int) error {
	for _, program := range []string{"wget", "mini_httpd"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("the paper's programs are wget and mini_httpd; apt-get install wget mini-httpd: %w", err)
		}
	}
	return inLab(ctx, congestion, lab.Options{
		Name: "bench", Switch: lab.SwitchOVS, Steering: steering, Binary: binary, App: "mini_httpd", Preload: preload,
	}, func(b *bench) error {
		b.rounds = rounds
		if err := b.replies(ctx); err != nil {
			return err
		}
		return b.addresses(ctx)
	})
}

// replies compares the time of wget from its start to its end.
func (b *bench) replies(ctx context.Context) error {
	ways := b.ways()
	fmt.Println("\nmini_httpd, unmodified, and wget, from its start to its end; milliseconds at the median")
	fmt.Printf("%10s %6s %9s %18s %18s %12s\n", "reply", "each", "direct", "handed off adds", "HAProxy adds", "paper adds")
	for _, c := range []struct{ size, n int }{{1000, 30}, {10_000, 30}, {100_000, 30}, {1_000_000, 15}, {10_000_000, 5}, {100_000_000, 1}} {
		took := make([][]time.Duration, len(ways))
		for range b.rounds {
			for n := range c.n { // in turn, so that all see the same machine
				for i, w := range ways {
					urls := w.urls(fmt.Sprintf("/bytes/%d", c.size))
					d, err := b.wget(ctx, urls[n%len(urls)])
					if err != nil {
						return err
					}
					took[i] = append(took[i], d)
				}
			}
		}
		var p50 [3]time.Duration
		for i := range ways {
			slices.Sort(took[i])
			p50[i] = quantile(took[i], 0.5)
		}
		fmt.Printf("%10d %6d %9s %18s %18s %12s\n", c.size, len(took[0]), ms(p50[0]), ms(p50[1]-p50[0]), ms(p50[2]-p50[0]), "about 1")
	}
	return nil
}

func (b *bench) wget(ctx context.Context, url string) (time.Duration, error) {
	cmd := exec.CommandContext(ctx, "wget", "-q", "-O", "/dev/null", url)
	cmd.Stderr = os.Stderr
	begun := time.Now()
	if err := b.lab.StartCommand("client1", cmd); err != nil {
		return 0, err
	}
	if err := cmd.Wait(); err != nil {
		return 0, fmt.Errorf("wget %s: %w", url, err)
	}
	return time.Since(begun), nil
}

// addresses measures a small request while every server holds many session
// addresses: by one local route, as agents do, and one by one, as addresses of
// an interface.
func (b *bench) addresses(ctx context.Context) error {
	const size = 1000
	fmt.Printf("\nThe time of a reply of %d octets, handed off, while each server holds session addresses; milliseconds at the median\n", size)
	fmt.Printf("%10s %18s %18s\n", "addresses", "one local route", "one by one")
	for _, n := range []int{1, 10, 100, 1000, 10_000} {
		var p50 [2]time.Duration
		for i, hold := range []func(n int) (func(n int) error, error){holdRoute, holdAddresses} {
			d, err := b.holding(ctx, n, size, hold)
			if err != nil {
				return err
			}
			p50[i] = d
		}
		fmt.Printf("%10d %18s %18s\n", n, ms(p50[0]), ms(p50[1]))
	}
	return nil
}

// holding measures with n addresses on every server.
func (b *bench) holding(ctx context.Context, n, size int, hold func(n int) (func(n int) error, error)) (p50 time.Duration, err error) {
	for _, h := range b.lab.Info().Hosts {
		if h.Role != lab.RoleServer {
			continue
		}
		var drop func(int) error
		if err := b.lab.Do(h.Name, func() (err error) { drop, err = hold(n); return err }); err != nil {
			return 0, err
		}
		defer func() {
			if e := b.lab.Do(h.Name, func() error { return drop(n) }); err == nil {
				err = e
			}
		}()
	}
	return b.rounded(ctx, fmt.Sprintf("/bytes/%d", size), size)
}

// heldAddress is one of 65,536 that the lab does not use otherwise.
func heldAddress(i int) net.IP { return net.IPv4(172, 30, byte(i>>8), byte(i)) }

func holdRoute(n int) (func(int) error, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	bits := 32
	for 1<<(32-bits) < n {
		bits--
	}
	route := &netlink.Route{
		LinkIndex: lo.Attrs().Index, Table: unix.RT_TABLE_LOCAL, Type: unix.RTN_LOCAL, Scope: netlink.SCOPE_HOST,
		Dst: &net.IPNet{IP: heldAddress(0), Mask: net.CIDRMask(bits, 32)},
	}
	if err := netlink.RouteAdd(route); err != nil {
		return nil, fmt.Errorf("add a local route for %d addresses: %w", n, err)
	}
	return func(int) error { return netlink.RouteDel(route) }, nil
}

func holdAddresses(n int) (func(int) error, error) {
	lo, err := netlink.LinkByName("lo")
	if err != nil {
		return nil, err
	}
	each := func(n int, f func(*netlink.Addr) error) error {
		for i := range n {
			a := &netlink.Addr{IPNet: &net.IPNet{IP: heldAddress(i), Mask: net.CIDRMask(32, 32)}}
			if err := f(a); err != nil {
				return fmt.Errorf("session address %s: %w", a.IP, err)
			}
		}
		return nil
	}
	if err := each(n, func(a *netlink.Addr) error { return netlink.AddrAdd(lo, a) }); err != nil {
		return nil, err
	}
	return func(n int) error { return each(n, func(a *netlink.Addr) error { return netlink.AddrDel(lo, a) }) }, nil
}
