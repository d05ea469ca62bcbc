package leases

import (
	"bytes"
	"cmp"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"strings"

	"go.etcd.io/bbolt"
)

// ErrExhausted is the cause when no pool of a family has a free address.
var ErrExhausted = errors.New("no free session address")

// Key says what a session address is leased to.
type Key struct {
	Service, Dispatcher string
	IPv6                bool
}

// String returns service/dispatcher/4 or 6: the key in the database. Names
// contain no slash.
func (k Key) String() string {
	family := "4"
	if k.IPv6 {
		family = "6"
	}
	return k.Service + "/" + k.Dispatcher + "/" + family
}

func (k Key) check() error {
	if k.Service == "" || k.Dispatcher == "" || strings.Contains(k.Service+k.Dispatcher, "/") {
		return fmt.Errorf("lease of service %q to dispatcher %q: names are 1 or more characters without a slash", k.Service, k.Dispatcher)
	}
	return nil
}

func parseKey(s []byte) (Key, error) {
	parts := strings.Split(string(s), "/")
	if len(parts) != 3 || parts[2] != "4" && parts[2] != "6" {
		return Key{}, fmt.Errorf("state database has a lease of %q, which is no service/dispatcher/family", s)
	}
	return Key{parts[0], parts[1], parts[2] == "6"}, nil
}

func compareKeys(a, b Key) int {
	return cmp.Or(cmp.Compare(a.Service, b.Service), cmp.Compare(a.Dispatcher, b.Dispatcher), cmp.Compare(a.String(), b.String()))
}

// Assign returns the session addresses of the keys. A key keeps the address
// that it has as long as a pool contains it; others get a free address, and an
// address that was freed is the last to be taken again, as sessions of its
// former holder may still live.
//
// If a family runs out, Assign returns the leases that it could make and an
// error that wraps ErrExhausted.
func (s *Store) Assign(pools []netip.Prefix, keys ...Key) (map[Key]netip.Addr, error) {
	out := make(map[Key]netip.Addr, len(keys))
	missing, err := s.existing(pools, keys, out)
	if err != nil || len(missing) == 0 {
		return out, err
	}
	var full []error
	err = s.db.Update(func(tx *bbolt.Tx) error {
		full = nil
		for _, k := range missing {
			a, err := assign(tx, pools, k)
			if errors.Is(err, ErrExhausted) {
				full = append(full, err)
				continue
			}
			if err != nil {
				return err
			}
			out[k] = a
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("write session addresses to the state database: %w", err)
	}
	return out, errors.Join(full...)
}

// existing fills out with what is leased already and returns the other keys.
func (s *Store) existing(pools []netip.Prefix, keys []Key, out map[Key]netip.Addr) (missing []Key, err error) {
	err = s.db.View(func(tx *bbolt.Tx) error {
		for _, k := range keys {
			if err := k.check(); err != nil {
				return err
			}
			if a, ok := netip.AddrFromSlice(tx.Bucket(bucketLeases).Get([]byte(k.String()))); ok && contained(pools, a) {
				out[k] = a
			} else {
				missing = append(missing, k)
			}
		}
		return nil
	})
	return missing, err
}

func contained(pools []netip.Prefix, a netip.Addr) bool {
	return slices.ContainsFunc(pools, func(p netip.Prefix) bool { return p.Contains(a) })
}

// assign leases an address to k, whose present address, if any, is in no pool.
func assign(tx *bbolt.Tx, pools []netip.Prefix, k Key) (netip.Addr, error) {
	held := tx.Bucket(bucketLeases).Get([]byte(k.String()))
	if a, ok := netip.AddrFromSlice(held); ok && contained(pools, a) {
		return a, nil // leased since existing looked
	}
	if held != nil {
		if err := free(tx, []byte(k.String())); err != nil {
			return netip.Addr{}, err
		}
	}
	for _, p := range pools {
		if p.Addr().Is6() != k.IPv6 {
			continue
		}
		a, ok := next(tx, p)
		if !ok {
			continue
		}
		return a, errors.Join(
			tx.Bucket(bucketMeta).Put([]byte("next/"+p.String()), a.Next().AsSlice()),
			tx.Bucket(bucketHolders).Put(a.AsSlice(), []byte(k.String())),
			tx.Bucket(bucketLeases).Put([]byte(k.String()), a.AsSlice()))
	}
	return netip.Addr{}, fmt.Errorf("lease to %v: %w; widen or add a pool, or remove a service or dispatcher", k, ErrExhausted)
}

// next returns the first free address of the pool, in a ring that starts after
// the one that was leased last. The pool's first and last address are never
// leased: network or subnet-router anycast, and broadcast.
func next(tx *bbolt.Tx, pool netip.Prefix) (netip.Addr, bool) {
	first, last := pool.Masked().Addr().Next(), lastOf(pool).Prev()
	start, ok := netip.AddrFromSlice(tx.Bucket(bucketMeta).Get([]byte("next/" + pool.String())))
	if !ok || start.Less(first) || last.Less(start) {
		start = first
	}
	holders := tx.Bucket(bucketHolders)
	for a := start; ; {
		if holders.Get(a.AsSlice()) == nil {
			return a, true
		}
		if a = a.Next(); last.Less(a) || !a.IsValid() {
			a = first
		}
		if a == start {
			return netip.Addr{}, false
		}
	}
}

// lastOf returns the highest address of a prefix.
func lastOf(p netip.Prefix) netip.Addr {
	b := p.Masked().Addr().AsSlice()
	for bit := p.Bits(); bit < len(b)*8; bit++ {
		b[bit/8] |= 0x80 >> (bit % 8)
	}
	a, _ := netip.AddrFromSlice(b)
	return a
}

// free removes a lease and the index of its address.
func free(tx *bbolt.Tx, key []byte) error {
	held := bytes.Clone(tx.Bucket(bucketLeases).Get(key))
	err := errors.Join(tx.Bucket(bucketHolders).Delete(held), tx.Bucket(bucketLeases).Delete(key))
	if b := tx.Bucket(bucketIndices).Bucket([]byte(KindAddress)); b != nil {
		if a, ok := netip.AddrFromSlice(held); ok {
			err = errors.Join(err, b.Delete([]byte(a.String())))
		}
	}
	return err
}

// Retain frees every lease, with its index, that keep does not want, and
// returns those freed.
func (s *Store) Retain(keep func(Key, netip.Addr) bool) (freed []Key, err error) {
	err = s.db.Update(func(tx *bbolt.Tx) error {
		freed = nil
		if err := tx.Bucket(bucketLeases).ForEach(func(key, addr []byte) error {
			k, err := parseKey(key)
			if err != nil {
				return err
			}
			if a, ok := netip.AddrFromSlice(addr); !ok || !keep(k, a) {
				freed = append(freed, k)
			}
			return nil
		}); err != nil {
			return err
		}
		for _, k := range freed {
			if err := free(tx, []byte(k.String())); err != nil {
				return err
			}
		}
		return nil
	})
	if err != nil {
		return nil, fmt.Errorf("free session addresses in the state database: %w", err)
	}
	return freed, nil
}

// Lease is a session address and its holder.
type Lease struct {
	Key
	Address netip.Addr
}

// All returns every lease, by service, dispatcher and family.
func (s *Store) All() ([]Lease, error) {
	var out []Lease
	err := s.db.View(func(tx *bbolt.Tx) error {
		return tx.Bucket(bucketLeases).ForEach(func(key, addr []byte) error {
			k, err := parseKey(key)
			if err != nil {
				return err
			}
			a, ok := netip.AddrFromSlice(addr)
			if !ok {
				return fmt.Errorf("state database has an address of %d octets for %v", len(addr), k)
			}
			out = append(out, Lease{k, a})
			return nil
		})
	})
	slices.SortFunc(out, func(a, b Lease) int { return compareKeys(a.Key, b.Key) })
	return out, err
}
